// Images with one label each: what is said of them.

function isWrong(at) { return images.label[at] >= 0 && images.label[at] !== images.predicted[at]; }
function labelText(at) { return labelOf(images.label[at]); }

function described(at) {
  const label = images.label[at] < 0 ? "no label" : `label ${labelOf(images.label[at])}`;
  return `${printable(images.path[at])}: ${label}, predicted ${labelOf(images.predicted[at])} (${percent(images.p[at])})`;
}

function says(at) {
  const label = element("b", { textContent: labelOf(images.label[at]) });
  if (!isWrong(at)) return [label, element("span", { textContent: `${percent(images.p[at])} sure` })];
  const guess = element("b", { className: "wrong", textContent: labelOf(images.predicted[at]) });
  return [label, " → ", guess, element("span", { textContent: `${percent(images.p[at])} sure` })];
}

function factsOf(at) {
  return [
    ["Label", images.label[at] < 0 ? "none" : `${labelOf(images.label[at])} (${percent(images.pLabel[at]) || "unknown to the head"})`],
    ["Prediction", `${labelOf(images.predicted[at])} (${percent(images.p[at])})`],
  ];
}

function suspicionsOf(at) {
  return data.suspects.filter((one) => one[0] === at).map(([, suggested, , p]) => ["Suggested label", `${labelOf(suggested)} (${percent(p)} by heads not fitted on it)`]);
}

function suspectSays(at, place) {
  const [, suggested, pLabel, p] = data.suspects[place];
  return [
    element("b", { textContent: labelOf(images.label[at]) }), " → ",
    element("b", { className: "wrong", textContent: labelOf(suggested) }), "?",
    element("span", { textContent: `${percent(pLabel)} against ${percent(p)}` }),
  ];
}

const colourings = {
  label: { names: [...data.labels.map(printable), "no label"], of: (at) => (images.label[at] < 0 ? data.labels.length : images.label[at]) },
  predicted: { names: data.labels.map(printable), of: (at) => images.predicted[at] },
  right: { names: ["right", "wrong", "no label"], of: (at) => (images.label[at] < 0 ? 2 : Number(isWrong(at))) },
};
