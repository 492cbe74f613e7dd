// One session of a study: introduction, questions in an order of this session's own, end. What the page shows comes from
// the element #study; which picture was made by whom is in no part of it. Answers are kept in localStorage after each one.
"use strict";

const study = JSON.parse(document.getElementById("study").textContent);
const sides = study.kind === "side-by-side";
const choices = sides ? ["left", "right"] : ["real", "generated"];
const KEYS = { ArrowLeft: 0, f: 0, F: 0, ArrowRight: 1, j: 1, J: 1 };
const PAUSE_MS = 500; // of nothing before each picture, so that a second key press answers nothing
const kept = `study-${study.study}`;
const pictures = new Map(); // name -> loaded image
const at = (id) => document.getElementById(id);

// The session: what is downloaded in the end, with the order of its questions and how often each was shown.

let session = restore() || begin();

function begin() {
  const name = crypto.getRandomValues(new Uint32Array(4));
  const [practice, counted] = [true, false].map((which) => shuffled(study.trials.filter((trial) => trial.practice === which)));
  return {
    schema: study.schema, study: study.study, kind: study.kind,
    session: [...name].map((part) => part.toString(16).padStart(8, "0")).join(""),
    consented: false, started: null, ended: null, finished: false, screen: null,
    order: [...practice, ...counted].map((trial) => ({ ...trial, shown: shuffled([...trial.pictures]) })),
    showings: {}, // trial -> how often it was shown: twice when the page was reloaded meanwhile
    answers: [],
  };
}

// In place, by Fisher and Yates.
function shuffled(list) {
  for (let last = list.length - 1; last > 0; last--) {
    const other = Math.floor(Math.random() * (last + 1));
    [list[last], list[other]] = [list[other], list[last]];
  }
  return list;
}

function restore() {
  try {
    const found = JSON.parse(localStorage.getItem(kept));
    return found && found.schema === study.schema && found.study === study.study && found.order && found.answers ? found : null;
  } catch {
    return null;
  }
}

function keep() {
  try {
    localStorage.setItem(kept, JSON.stringify(session));
  } catch {
    at("unsaved").hidden = false;
  }
}

// Pictures are loaded before the first question, so that a second is a second.

async function load() {
  const names = [...new Set(study.trials.flatMap((trial) => [...trial.pictures, trial.source, trial.target_pose]))].filter(Boolean);
  await Promise.all(names.map(async (name) => {
    const picture = new Image();
    picture.alt = "";
    picture.draggable = false;
    picture.src = `pictures/${name}.png`;
    await picture.decode();
    pictures.set(name, picture);
    at("loading").textContent = `Loading pictures: ${pictures.size} of ${names.length}`;
  }));
}

// Pixels are enlarged by a whole factor, all by the same, never smoothed: as large as the window has room for.
function fit() {
  const room = sides
    ? [Math.min(innerWidth - 84, 900) / 2, (innerHeight - 330) / 2]
    : [Math.min(innerWidth - 40, 700), Math.min(innerHeight - 270, 560)];
  const factor = Math.max(1, Math.min(Math.floor(room[0] / study.width), Math.floor(room[1] / study.height)));
  document.body.style.setProperty("--picture-width", `${study.width * factor}px`);
  document.body.style.setProperty("--picture-height", `${study.height * factor}px`);
  return { width_px: innerWidth, height_px: innerHeight, pixel_ratio: devicePixelRatio, enlarged: factor };
}

function screen(name) {
  for (const id of ["introduction", "questions", "end"]) at(id).hidden = id !== name;
  document.body.dataset.screen = name;
  scrollTo(0, 0);
}

// A question: pause, picture, and where the time is limited a mask, until there is an answer.

let turn = 0; // counts questions and stops: a pause or picture of an earlier one must not go on
let asked = null; // the trial that takes answers, with when it appeared and how long it was seen

const frame = () => new Promise((done) => requestAnimationFrame(done));
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function ask() {
  const mine = ++turn;
  asked = null;
  const answered = session.answers.length;
  if (answered >= session.order.length) return finish();
  const trial = session.order[answered];
  const practice = study.trials.filter((each) => each.practice).length;
  at("progress").value = answered;
  at("count").textContent = answered < practice ? `practice ${answered + 1} of ${practice}` : `${answered - practice + 1} of ${session.order.length - practice}`;
  session.screen = fit();
  screen("questions");
  phase("pause");
  await sleep(PAUSE_MS);
  if (mine !== turn) return;
  session.showings[trial.trial] = (session.showings[trial.trial] || 0) + 1;
  keep();
  phase("shown", trial);
  await frame();
  if (mine !== turn) return;
  asked = { trial, since: performance.now(), shown_ms: null, away: document.hidden };
  if (!study.seconds) return;
  await sleep(1000 * study.seconds);
  if (mine === turn) hide();
}

function phase(name, trial = null) {
  const places = sides ? { left: trial?.shown[0], right: trial?.shown[1], source: trial?.source, pose: trial?.target_pose } : { single: trial?.shown[0] };
  for (const [place, picture] of Object.entries(places)) at(place).replaceChildren(...(picture ? [pictures.get(picture)] : []));
  document.body.dataset.phase = name;
}

function hide() {
  asked.shown_ms ??= performance.now() - asked.since;
  phase("question");
}

function answer(choice) {
  if (!asked) return;
  const { trial, since, away } = asked;
  const given = { trial: trial.trial, answer: choice };
  if (sides) given.left = trial.shown[0];
  hide();
  session.answers.push({
    ...given, shown_ms: Math.round(asked.shown_ms), answer_ms: Math.round(performance.now() - since),
    showings: session.showings[trial.trial], away,
  });
  keep();
  ask();
}

// The end, after the last question or when somebody stops.

function finish() {
  turn++;
  asked = null;
  const left = session.order.length - session.answers.length;
  session.finished = left === 0;
  session.ended = new Date().toISOString();
  keep();
  at("outcome").textContent = left ? "You have stopped" : "Thank you, that was all";
  at("what-next").textContent = left
    ? `You have answered ${session.answers.length} of ${session.order.length} questions. These count too: download them, or go on answering now or later.`
    : "One thing is left: download your answers and hand over the file.";
  at("continue").hidden = !left;
  at("text").value = answers();
  screen("end");
}

function answers() {
  const { showings, order, ...told } = session;
  return JSON.stringify(told, null, 1) + "\n";
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([answers()], { type: "application/json" }));
  link.download = `answers-${study.study}-${session.session.slice(0, 8)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// The introduction, to which a reload comes back.

let loaded = false;

function introduce() {
  const answered = session.answers.length;
  at("consent").checked = session.consented;
  at("begin").textContent = answered ? `Go on: ${answered} of ${session.order.length} are answered` : "Begin";
  allowBeginning();
  if (answered && answered >= session.order.length) finish();
  else screen("introduction");
}

function allowBeginning() {
  at("begin").disabled = !loaded || !at("consent").checked;
}

// What a participant does.

at("consent").addEventListener("change", allowBeginning);
at("begin").addEventListener("click", () => {
  session.consented = true;
  session.started ??= new Date().toISOString();
  document.activeElement.blur();
  ask();
});
at("stop").addEventListener("click", finish);
at("continue").addEventListener("click", ask);
at("download").addEventListener("click", download);
at("delete").addEventListener("click", () => {
  try {
    localStorage.removeItem(kept);
  } catch {
    // nothing was kept, so nothing is left
  }
  session = begin();
  introduce();
});
for (const button of document.querySelectorAll("[data-answer]")) button.addEventListener("click", () => answer(button.dataset.answer));
document.addEventListener("keydown", (press) => {
  if (document.body.dataset.screen !== "questions" || press.ctrlKey || press.metaKey || press.altKey) return;
  if (press.key === "Escape") return finish();
  if (!(press.key in KEYS)) return;
  press.preventDefault();
  if (!press.repeat) answer(choices[KEYS[press.key]]);
});
document.addEventListener("visibilitychange", () => {
  if (asked && document.hidden && asked.shown_ms === null) asked.away = true;
});
addEventListener("resize", fit);

introduce();
load().then(
  () => {
    loaded = true;
    at("loading").textContent = "";
    allowBeginning();
  },
  () => {
    at("loading").textContent = "A picture could not be loaded. Unpack the whole folder, keep index.html beside its pictures, and open it again.";
  },
);
