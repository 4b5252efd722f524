// In a file of its own, because the page's Content-Security-Policy allows no script in the page.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  // Nothing is sent elsewhere to be validated.
  validatorUrl: null,
});
