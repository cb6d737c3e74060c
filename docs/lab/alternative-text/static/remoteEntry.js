// Gives pictures in notebooks the alternative text that is stored with them. JupyterLab 4 reads width and height of
// `metadata["image/png"]` and leaves `alt` out (jupyter/enhancement-proposals, issue 120); when it reads it, this folder can go.
// Written by hand in the form that JupyterLab loads as a prebuilt extension, so that nothing has to be compiled.
"use strict";
(() => {
  const TYPE = "image/png";
  let shared;

  async function imported(name) {
    const [version] = Object.values(shared[name]);
    return (await version.get())();
  }

  function withAlternativeText(factory) {
    return {
      ...factory,
      createRenderer(options) {
        const renderer = factory.createRenderer(options);
        const draw = renderer.renderModel.bind(renderer);
        renderer.renderModel = async (model) => {
          await draw(model);
          const text = model.metadata[TYPE]?.alt;
          const picture = renderer.node.querySelector("img");
          if (picture && text) {
            picture.alt = text;
          }
        };
        return renderer;
      },
    };
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB["alternative-text"] = {
    init(scope) {
      shared = scope;
    },
    async get() {
      const { IRenderMimeRegistry } = await imported("@jupyterlab/rendermime");
      const plugin = {
        id: "alternative-text:plugin",
        description: "Alternative texts of pictures.",
        autoStart: true,
        requires: [IRenderMimeRegistry],
        activate(app, registry) {
          const factory = registry.getFactory(TYPE);
          if (factory) {
            registry.addFactory(withAlternativeText({ ...factory, mimeTypes: [TYPE] }));
          }
        },
      };
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();
