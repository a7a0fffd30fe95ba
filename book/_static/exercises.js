// Exercises: the reader ticks those that are done, and the browser remembers them (book/_tools/progress.py).
(function () {
  "use strict";

  const KEY = "one-layer-many-features:done"; // other sites can share the origin, say on github.io

  // The labels of the exercises that are done. Where storage is blocked, they last as long as the page.
  const kept = {
    works: true,
    labels: new Set(),
    read() {
      try {
        const labels = JSON.parse(localStorage.getItem(KEY));
        this.labels = new Set(Array.isArray(labels) ? labels : []);
      } catch (error) {
        this.works = error instanceof SyntaxError; // not ours: the next tick writes it anew
      }
      return this.labels;
    },
    set(label, done) {
      this.read(); // another tab may have written since
      if (done) this.labels.add(label);
      else this.labels.delete(label);
      try {
        localStorage.setItem(KEY, JSON.stringify([...this.labels]));
      } catch {
        this.works = false;
      }
    },
  };

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    Object.assign(made, attributes);
    made.append(...children);
    return made;
  }

  const updates = [];
  function update() {
    const labels = kept.read();
    updates.forEach((each) => each(labels));
  }

  // A box to tick in the title of each exercise.
  const exercises = [...document.querySelectorAll(".admonition.exercise[id]")];
  for (const exercise of exercises) {
    const title = exercise.querySelector(".admonition-title");
    const tick = element("input", { type: "checkbox" });
    tick.setAttribute("aria-label", `Done: ${title.textContent.trim().replace(/\s+/g, " ")}`);
    tick.addEventListener("change", () => {
      kept.set(exercise.id, tick.checked);
      update();
    });
    title.append(element("label", { className: "exercise-done" }, tick, "Done"));
    updates.push((labels) => {
      tick.checked = labels.has(exercise.id);
      exercise.classList.toggle("is-done", tick.checked);
    });
  }

  // How far the reader is: on a chapter above its exercises, on the front page behind the link to each chapter.
  function count(ids, labels) {
    return ids.filter((id) => labels.has(id)).length;
  }

  if (exercises.length) {
    const ids = exercises.map((exercise) => exercise.id);
    const bar = element("progress", { max: ids.length });
    bar.setAttribute("aria-hidden", "true"); // the words say the same
    const words = element("span");
    const line = element("p", { className: "exercise-progress" }, bar, words);
    line.setAttribute("role", "status");
    const heading = document.querySelector("section#exercises > h2");
    if (heading) heading.after(line);
    else exercises[0].before(line);
    updates.push((labels) => {
      bar.value = count(ids, labels);
      const where = kept.works ? "" : " (your browser does not let pages keep this)";
      words.textContent = `${bar.value} of ${ids.length} exercises done${where}`;
    });
  }

  const chapters = document.getElementById("exercises-of-chapters");
  for (const [address, ids] of Object.entries(chapters ? JSON.parse(chapters.textContent) : {})) {
    for (const link of document.querySelectorAll(`.bd-article td a[href="${address}"]`)) {
      const words = element("span", { className: "exercise-progress" });
      link.after(" ", words);
      updates.push((labels) => {
        const done = count(ids, labels);
        words.textContent = done ? `${done} of ${ids.length} exercises done` : `${ids.length} exercises`;
      });
    }
  }

  if (!updates.length) return;
  update();
  addEventListener("storage", update); // another tab
  addEventListener("pageshow", update); // back from a chapter, out of the browser's memory
})();
