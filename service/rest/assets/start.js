// In a file of its own, because the page's Content-Security-Policy allows no script in the page.
const dark = matchMedia("(prefers-color-scheme: dark)");
const setTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
setTheme();
dark.addEventListener("change", setTheme);

const plugin = {
  wrapComponents: {
    // There is one server: the one that this page comes from.
    ServersContainer: () => () => null,
    // The headers of a request behind its body.
    parameters: (Parameters, { React }) => (props) => {
      const isHeader = (parameter) => parameter.get("in") === "header";
      const headers = props.parameters.filter(isHeader);
      const others = React.createElement(Parameters, { ...props, parameters: props.parameters.filterNot(isHeader) });
      if (headers.isEmpty()) return others;
      const operation = props.operation.delete("requestBody");
      return React.createElement(
        React.Fragment,
        null,
        others,
        React.createElement(
          "details",
          { className: "headers" },
          React.createElement("summary", null, "Headers"),
          React.createElement(Parameters, { ...props, parameters: headers, operation }),
        ),
      );
    },
  },
};

// Swagger UI gives no names to its fields, which screen readers need: the parameter's, or what the field is for.
const nameFields = () => {
  for (const field of document.querySelectorAll("#swagger-ui :is(input, select, textarea):not([aria-label])")) {
    const row = field.closest("[data-param-name]");
    const cell = field.closest(".auth-container, .opblock-section-request-body, .responses-wrapper");
    const isCredential = cell?.matches(".auth-container");
    const purpose = isCredential ? "Credential" : cell?.matches(".responses-wrapper") ? "Response format" : "Request body";
    field.setAttribute("aria-label", row ? row.dataset.paramName : purpose);
  }
};
new MutationObserver(nameFields).observe(document.documentElement, { childList: true, subtree: true });

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  plugins: [plugin],
  // Nothing is sent elsewhere to be validated.
  validatorUrl: null,
});
