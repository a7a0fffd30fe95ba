// Boxes of the class "commit": the reader chooses an option, and then the explanation opens. CONTRIBUTING.md shows how
// to write one. Without this script, the options are a list and the explanation stands below it.
(function () {
  "use strict";

  function open(box) {
    const list = box.querySelector(":scope > ul.contains-task-list");
    if (!list) return;

    const explanation = document.createElement("div");
    explanation.className = "commit-explanation";
    explanation.hidden = true;
    while (list.nextSibling) explanation.append(list.nextSibling);
    const verdict = document.createElement("p");
    verdict.className = "commit-verdict";
    verdict.setAttribute("role", "status");
    list.after(verdict, explanation);
    list.classList.add("commit-options");

    const options = [...list.children].map((item) => {
      const tick = item.querySelector("input[type=checkbox]");
      const option = { right: tick.checked, button: document.createElement("button") };
      tick.remove();
      option.button.type = "button";
      for (const part of [...item.childNodes]) option.button.append(...(part.tagName === "P" ? part.childNodes : [part]));
      item.replaceChildren(option.button);
      return option;
    });
    const known = options.some((option) => option.right); // some questions only ask for a guess
    const explained = explanation.textContent.trim() !== "";

    for (const chosen of options) {
      chosen.button.addEventListener("click", () => {
        if (!explanation.hidden) return;
        explanation.hidden = false;
        for (const { right, button } of options) {
          button.setAttribute("aria-pressed", String(button === chosen.button));
          button.setAttribute("aria-disabled", "true"); // and not `disabled`, which would lose the reader's place
          if (right) button.classList.add("is-right");
        }
        if (known) verdict.textContent = chosen.right ? "Yes." : "No. The right one is marked.";
        else verdict.textContent = explained ? "Now compare." : "Keep it in mind, and read on.";
      });
    }
  }

  document.querySelectorAll(".admonition.commit").forEach(open);
})();
