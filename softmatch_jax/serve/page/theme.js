// Runs before the first paint, so that a chosen theme never flashes.
(() => {
  try {
    const theme = JSON.parse(localStorage.getItem("softmatch.theme"));
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage can be forbidden; the system's theme is used then.
  }
})();
