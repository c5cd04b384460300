// Keys press the page's own buttons; nothing else happens here. The page waits for this file, so that no key is lost.
"use strict";

let sent = false;

document.addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
});
addEventListener("pageshow", () => { sent = false; });  // also when the browser goes back to a page it kept

document.addEventListener("click", (event) => {
  const opens = event.target.closest("[data-opens]")?.dataset.opens;
  if (!opens) return;
  const parts = [...document.querySelectorAll(opens)];
  const open = !parts.every((part) => part.open);
  for (const part of parts) part.open = open;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  const writing = event.target.closest("textarea, input");
  if (writing) {
    if (event.key === "Escape") writing.blur();
    return;
  }
  const wanted = event.key.toLowerCase();
  const control = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === wanted);
  if (!control || control.disabled || sent) return;
  event.preventDefault();
  if (control.tagName === "TEXTAREA") control.focus();
  else control.click();
});
