"use strict";
// What the pages that try models and review labels have in common.
const byId = (id) => document.getElementById(id);
const percent = (value) => `${(100 * value).toFixed(1)}%`;

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function say(text, isBad = false) {
  byId("said").textContent = text;
  byId("said").className = isBad ? "bad" : "";
}
