// The blind scoring page that sae_core/rubric.py makes: the reader scores one unit after the other, the browser keeps the
// scores, and at the end the page says which units were neurons. Everything that comes from a text is set as text.
(function () {
  "use strict";

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    Object.assign(made, attributes);
    made.append(...children);
    return made;
  }

  function median(numbers) {
    const sorted = [...numbers].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  function start(root) {
    const { id, criteria, items } = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const most = Number(root.dataset.most);
    const key = `one-layer-many-features:rubric:${id}`; // other sites can share the origin
    const state = read();
    let at = 0;
    let kept = true;

    // --- scores: the same rules as in rubric.py

    function asked(rating) {
      if (rating.confidence === 0) return ["confidence"];
      const perfect = rating.consistency === criteria.find(({ name }) => name === "consistency").largest;
      return criteria.map(({ name }) => name).filter((name) => name !== "separation" || !perfect);
    }

    function points(rating) {
      const scores = asked(rating).map((name) => rating[name]);
      return scores.every(Number.isInteger) ? scores.reduce((sum, score) => sum + score) : null;
    }

    // --- what is kept

    function fresh() {
      return { items: id, finished: false, ratings: items.map(() => ({})) };
    }

    function read() {
      try {
        const found = JSON.parse(localStorage.getItem(key));
        const whole = found.ratings.length === items.length && found.ratings.every((r) => r && typeof r === "object");
        return whole ? found : fresh();
      } catch {
        return fresh(); // nothing there, not ours, or blocked
      }
    }

    function keep() {
      try {
        localStorage.setItem(key, JSON.stringify(state));
      } catch {
        kept = false;
      }
    }

    function exported() {
      const ratings = state.ratings.map((rating, i) => {
        const { name, kind, interval } = items[i];
        return state.finished ? { ...rating, name, kind, interval } : rating; // blind until then
      });
      return JSON.stringify({ ...state, ratings }, null, 1);
    }

    // --- one unit

    const status = element("span", {});
    const bar = element("progress", { max: items.length });
    bar.setAttribute("aria-hidden", "true"); // the words say the same
    const progress = element("p", { className: "rubric-progress" }, bar, status);
    progress.setAttribute("role", "status");
    const card = element("div", { className: "rubric-card" });

    function tell() {
      const scored = state.ratings.filter((rating) => points(rating) !== null).length;
      bar.value = scored;
      const where = kept ? "" : " (your browser does not let pages keep this: save it)";
      status.textContent = `${scored} of ${items.length} scored${where}`;
    }

    function tokens(words) {
      return words.map((word) => element("bdi", { className: "rubric-token", textContent: word }));
    }

    function snippet({ tokens, levels, center }) {
      const line = element("p", { className: "rubric-example", dir: "ltr" });
      tokens.forEach((token, i) => {
        const span = element("span", { textContent: token });
        const level = Number(levels[i]);
        if (level) {
          span.dataset.level = level;
          span.title = `activation ${level} of 9`;
          span.style.background = `rgba(230, 126, 34, ${((level / 9) * 0.5).toFixed(2)})`;
        }
        if (i === center) span.className = "rubric-center";
        line.append(span);
      });
      return line;
    }

    function question(criterion, rating, changed) {
      const { name, largest, question, low, high } = criterion;
      const scale = element("span", {}, `from 0, ${low}, to ${largest}, ${high}`);
      const set = element("fieldset", { className: `rubric-${name}` }, element("legend", {}, question, " ", scale));
      const options = element("div", { className: "rubric-options" });
      for (let score = 0; score <= largest; score += 1) {
        const radio = element("input", { type: "radio", name, value: score, checked: rating[name] === score });
        radio.addEventListener("change", () => {
          rating[name] = score;
          changed();
        });
        options.append(element("label", {}, radio, String(score)));
      }
      set.append(options);
      return set;
    }

    function show(index) {
      at = index;
      const item = items[at];
      const rating = state.ratings[at];
      const title = element("p", { className: "rubric-title", tabIndex: -1 }, `Unit ${at + 1} of ${items.length}`);
      const form = element("form", { onsubmit: () => false });
      const words = element("input", { type: "text", maxLength: 200, value: rating.words || "" });
      words.addEventListener("input", () => {
        rating.words = words.value;
        keep();
      });
      form.append(element("label", { className: "rubric-words" }, "In your words, what does it respond to?", words));
      const sum = element("p", { className: "rubric-sum" });
      const sets = criteria.map((criterion) => [criterion.name, question(criterion, rating, changed)]);
      form.append(...sets.map(([, set]) => set), sum);

      function follow() {
        const names = asked(rating);
        for (const [name, set] of sets) set.hidden = !names.includes(name);
        const total = points(rating);
        sum.textContent = total === null ? "" : `${total} of ${most} points`;
      }

      function changed() {
        keep();
        follow();
        tell();
      }

      follow();
      card.replaceChildren(
        title,
        element("p", { className: "rubric-quiet" }, item.heading),
        ...item.examples.map(snippet),
        element("p", {}, "Makes likely as the next token: ", ...tokens(item.promoted)),
        element("p", {}, "Makes unlikely: ", ...tokens(item.suppressed)),
        form,
        element(
          "div",
          { className: "rubric-buttons" },
          button("Back", () => move(-1), at === 0),
          button("Next", () => move(1), at === items.length - 1),
        ),
      );
      tell();
      return title;
    }

    function move(by) {
      show(at + by).focus(); // the reader goes on where the unit begins
    }

    // --- buttons

    function button(label, action, disabled = false) {
      const made = element("button", { type: "button", disabled }, label);
      made.addEventListener("click", () => action(made));
      return made;
    }

    // A second click does it, where the first may have been a mistake.
    function twice(label, warning, action) {
      let words = "";
      const made = button(label, () => {
        if (words === warning() || !warning()) return action();
        made.textContent = words = warning();
      });
      made.addEventListener("blur", () => {
        made.textContent = label;
        words = "";
      });
      return made;
    }

    function save() {
      const address = URL.createObjectURL(new Blob([exported()], { type: "application/json" }));
      element("a", { href: address, download: `rubric-${id}.json` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    }

    function unscored() {
      const n = state.ratings.filter((rating) => points(rating) === null).length;
      return n ? `${n} not scored, and the scores are final: reveal all the same?` : "";
    }

    function finish() {
      state.finished = true;
      keep();
      reveal().focus();
    }

    function again() {
      Object.assign(state, fresh());
      keep();
      begin().focus();
    }

    // --- the end

    function cells(tag, values) {
      return values.map((value) => element(tag, tag === "th" ? { scope: "col" } : {}, element("bdi", {}, value)));
    }

    function table(caption, header, rows) {
      const body = rows.map((row) => element("tr", {}, ...cells("td", row)));
      return element(
        "table",
        {},
        element("caption", {}, caption),
        element("thead", {}, element("tr", {}, ...cells("th", header))),
        element("tbody", {}, ...body),
      );
    }

    function reveal() {
      const title = element("p", { className: "rubric-title", tabIndex: -1 }, "What you scored");
      const scored = items.map((item, i) => ({ ...item, ...state.ratings[i], points: points(state.ratings[i]) }));
      const kinds = [...new Set(items.map(({ kind }) => kind))].sort();
      const medians = kinds.map((kind) => {
        const own = scored.filter((each) => each.kind === kind && each.points !== null).map((each) => each.points);
        return [kind, String(own.length), own.length ? String(median(own)) : "–"];
      });
      const rows = scored.map((each) => [each.name, each.points === null ? "–" : String(each.points), each.words || ""]);
      root.replaceChildren(
        title,
        table(`Medians, of ${most} points`, ["kind", "scored", "median"], medians),
        table("Every unit", ["unit", "points", "your words"], rows),
        element(
          "div",
          { className: "rubric-buttons" },
          button("Save as JSON", save),
          twice("Start again", () => "This forgets your scores: forget them?", again),
        ),
      );
      return title;
    }

    function begin() {
      const digits = element("input", { type: "checkbox" });
      digits.addEventListener("change", () => root.classList.toggle("rubric-digits", digits.checked));
      const title = show(Math.max(0, state.ratings.findIndex((rating) => points(rating) === null)));
      root.replaceChildren(
        progress,
        element("label", { className: "rubric-quiet" }, digits, "Show the activations as digits, too"),
        card,
        element(
          "div",
          { className: "rubric-buttons rubric-end" },
          twice("Finish, and reveal the neurons", unscored, finish),
          button("Save as JSON", save),
        ),
      );
      return title;
    }

    if (state.finished) reveal();
    else begin();
  }

  for (const root of document.querySelectorAll(".rubric:not([data-started])")) {
    root.dataset.started = "true";
    start(root);
  }
})();
