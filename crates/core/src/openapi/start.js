SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  tryItOutEnabled: true,
  displayOperationId: true,
  filter: true,
  validatorUrl: null,
  // A token that is entered is forgotten with the page.
  persistAuthorization: false,
});
