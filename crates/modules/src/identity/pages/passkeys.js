// Passkeys: asks the browser for one, and sends what it answers. Without this script passwords and the codes of an app remain.
"use strict";

const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const bytes = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
const known = (credentials) => credentials.map((id) => ({ type: "public-key", id: bytes(id) }));
const TIMEOUT = 300000;

const post = async (path, form, body) => {
  const headers = {};
  if (form.elements.csrf) headers["x-csrf-token"] = form.elements.csrf.value;
  if (body) headers["content-type"] = "application/json";
  const answer = await fetch(path, { method: "POST", headers, body: body && JSON.stringify(body) });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail);
  return said;
};

const create = async (form) => {
  const asked = await post("/api/v1/auth/passkeys/options", form);
  const made = await navigator.credentials.create({
    publicKey: {
      challenge: bytes(asked.challenge),
      rp: { id: asked.rpId, name: asked.rpId },
      user: { id: bytes(asked.userId), name: asked.userName, displayName: asked.userName },
      pubKeyCredParams: asked.algorithms.map((alg) => ({ type: "public-key", alg })),
      excludeCredentials: known(asked.credentials),
      authenticatorSelection: { residentKey: "preferred", userVerification: "preferred" },
      attestation: "none",
      timeout: TIMEOUT,
    },
  });
  await post("/api/v1/auth/passkeys", form, {
    name: form.elements.name.value.trim() || "Passkey",
    clientData: text(made.response.clientDataJSON),
    attestationObject: text(made.response.attestationObject),
  });
  location.assign("/account?done=passkey-added");
};

const prove = async (form, asked) => {
  const got = await navigator.credentials.get({
    publicKey: {
      challenge: bytes(asked.challenge),
      rpId: asked.rpId,
      allowCredentials: known(asked.credentials),
      userVerification: asked.userVerification,
      timeout: TIMEOUT,
    },
  });
  form.elements.passkey.value = JSON.stringify({
    credential: text(got.rawId),
    clientData: text(got.response.clientDataJSON),
    authenticatorData: text(got.response.authenticatorData),
    signature: text(got.response.signature),
    userHandle: got.response.userHandle ? text(got.response.userHandle) : undefined,
  });
  form.submit();
};

const acts = {
  create,
  prove: async (form) => prove(form, await post("/api/v1/auth/passkeys/challenge", form)),
  // The company that was typed, if one was: else it is that of the last sign-in.
  alone: async (form) => {
    form.elements.tenant.value = document.getElementById("tenant").value;
    return prove(form, await post("/api/v1/auth/login/passkey/challenge", form));
  },
  "sign-in": async (form) =>
    prove(form, await post("/api/v1/auth/mfa/passkey", form, { mfaToken: form.elements.token.value })),
};

for (const button of document.querySelectorAll("button[data-passkey]")) {
  button.hidden = !window.PublicKeyCredential;
  if (!button.form.hasAttribute("action")) {
    button.form.hidden = button.hidden;
    button.form.addEventListener("submit", (event) => {
      event.preventDefault();
      button.click();
    });
  }
  button.addEventListener("click", () => {
    const fault = button.form.querySelector("[role=alert]");
    fault.hidden = true;
    acts[button.dataset.passkey](button.form).catch((error) => {
      fault.textContent = error.message;
      fault.hidden = false;
    });
  });
}
