// Images with several labels: what is said of them.

function namesOf(list) { return list.map(labelOf).join(", ") || "none"; }
function missing(at) { return (images.sets[at] || []).filter((one) => !images.given[at].includes(one)); }
function extra(at) { return images.sets[at] === null ? [] : images.given[at].filter((one) => !images.sets[at].includes(one)); }
function isWrong(at) { return missing(at).length + extra(at).length > 0; }
function labelText(at) { return images.sets[at] === null ? "labels not known" : namesOf(images.sets[at]); }
function sure(at, list) { return list.map((one) => `${labelOf(one)} ${percent(images.p[at][one])}`).join(", "); }

function described(at) {
  return `${printable(images.path[at])}: labels ${labelText(at)}, predicted ${namesOf(images.given[at])}`;
}

function says(at) {
  const said = [element("b", { textContent: labelText(at) })];
  if (missing(at).length) said.push(element("span", { className: "wrong", textContent: `missed: ${sure(at, missing(at))}` }));
  if (extra(at).length) said.push(element("span", { className: "wrong", textContent: `extra: ${sure(at, extra(at))}` }));
  return said;
}

function factsOf(at) {
  return [
    ["Labels", images.sets[at] === null ? "not known" : sure(at, images.sets[at]) || "none"],
    ["Prediction", sure(at, images.given[at]) || "none"],
  ];
}

function suspicionsOf(at) {
  return data.suspects.filter((one) => one[0] === at).map(([, label, kind, p]) => [`Probably ${kind}`, `${labelOf(label)} (${percent(p)} by heads not fitted on it)`]);
}

function suspectSays(at, place) {
  const [, label, kind, p] = data.suspects[place];
  return [
    `${kind}: `, element("b", { className: "wrong", textContent: labelOf(label) }), "?",
    element("span", { textContent: `${percent(p)}; labels ${labelText(at)}` }),
  ];
}

const colourings = {
  right: { names: ["all right", "some wrong", "labels not known"], of: (at) => (images.sets[at] === null ? 2 : Number(isWrong(at))) },
};
data.labels.forEach((label, number) => {
  const names = [`with ${printable(label)}`, `without ${printable(label)}`, "labels not known"];
  colourings[`with ${number}`] = { names, of: (at) => (images.sets[at] === null ? 2 : Number(!images.sets[at].includes(number))) };
});
