"use strict";
SwaggerUIBundle({ url: "/docs.json", dom_id: "#docs", deepLinking: true, presets: [SwaggerUIBundle.presets.apis] });
