"use strict";
async function look() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("/api/v1/status");
    if (answer.status === 401) { location.href = "/login"; return; }
    const s = await answer.json();
    state.textContent = s.site + ", version " + s.version + ", " + s.problems.length + " problems";
    document.getElementById("status").textContent = JSON.stringify(s, null, 2);
    document.getElementById("logout").hidden = location.protocol !== "https:";
  } catch (e) {
    state.textContent = "the agent does not answer";
  }
}
look();
setInterval(look, 2000);
