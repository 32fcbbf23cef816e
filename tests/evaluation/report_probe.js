// Acts as a user on report.html and leaves what it found in an element that test_report.py reads.
{
const found = {};
const at = (element, x, y) => { const box = element.getBoundingClientRect(); return { clientX: box.left + x * box.width, clientY: box.top + y * box.height, bubbles: true, pointerId: 7 }; };
const stage = document.getElementById("stage"), plot = document.getElementById("plot"), tip = document.getElementById("tip");
found.title = document.title;
found.curves = plot.querySelectorAll("polyline").length;
const mark = plot.querySelector("circle");
const spot = mark.getBoundingClientRect();
plot.dispatchEvent(new PointerEvent("pointermove", { clientX: spot.left + spot.width / 2, clientY: spot.top + spot.height / 2, bubbles: true }));
found.tip = tip.hidden ? null : tip.textContent;
document.querySelector("#legend input").click();
found.curvesLeft = plot.querySelectorAll("polyline").length;
const cells = (column) => [...document.querySelectorAll("#points tbody tr")].map((row) => row.children[column].textContent);
document.querySelectorAll("#points th")[2].click();
found.rising = cells(2);
document.querySelectorAll("#points th")[2].click();
found.falling = cells(2);
found.before = document.getElementById("left-layer").style.clipPath;
document.getElementById("handle").dispatchEvent(new PointerEvent("pointerdown", at(stage, .5, .5)));
stage.dispatchEvent(new PointerEvent("pointermove", at(stage, .25, .5)));
stage.dispatchEvent(new PointerEvent("pointerup", at(stage, .25, .5)));
found.after = document.getElementById("left-layer").style.clipPath;
stage.dispatchEvent(new WheelEvent("wheel", { ...at(stage, .5, .5), deltaY: -100, cancelable: true }));
found.zoom = ["left", "right"].map((side) => document.getElementById(`${side}-image`).style.transform);
stage.dispatchEvent(new PointerEvent("pointerdown", at(stage, .8, .5)));
stage.dispatchEvent(new PointerEvent("pointermove", at(stage, .7, .5)));
stage.dispatchEvent(new PointerEvent("pointerup", at(stage, .7, .5)));
found.panned = ["left", "right"].map((side) => document.getElementById(`${side}-image`).style.transform);
const right = document.getElementById("right");
right.value = right.options[right.options.length - 1].value;
right.dispatchEvent(new Event("change"));
found.caption = document.getElementById("right-caption").textContent;
// the window's load event waits for the pictures
addEventListener("load", () => {
  found.widths = ["left", "right"].map((side) => document.getElementById(`${side}-image`).naturalWidth);
  document.body.append(Object.assign(document.createElement("pre"), { id: "found", textContent: JSON.stringify(found) }));
});
}
