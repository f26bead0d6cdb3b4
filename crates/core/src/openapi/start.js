// Beside this page, wherever a proxy shows it: the calls that are tried go there too.
const base = new URL(".", location.href);

fetch(new URL("openapi.json", base))
  .then((answer) => answer.json())
  .then((spec) =>
    SwaggerUIBundle({
      spec: { servers: [{ url: base.pathname }], ...spec },
      dom_id: "#page",
      deepLinking: true,
      tryItOutEnabled: true,
      displayOperationId: true,
      filter: true,
      validatorUrl: null,
      // A token that is entered is forgotten with the page.
      persistAuthorization: false,
    }),
  );
