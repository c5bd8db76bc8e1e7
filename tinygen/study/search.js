const field = document.getElementById("search"), cards = [...document.querySelectorAll("[data-text]")];
field.closest("p").hidden = false;
field.addEventListener("input", () => {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const card of cards) card.hidden = !words.every((word) => card.dataset.text.includes(word));
  for (const family of document.querySelectorAll(".family"))
    family.hidden = !family.querySelector("[data-text]:not([hidden])");
  const found = cards.filter((card) => !card.hidden).length;
  document.getElementById("found").textContent = words.length ? `${found} of ${cards.length}` : "";
});
