"""Sphinx's settings for the book. `tools/site.py` writes the pages and calls Sphinx."""

from myst_nb.core.render import NbElementRenderer

project = html_title = "DenseNet, block by block"
language = "en"
extensions = ["myst_nb"]
nb_execution_mode = "off"  # the outputs are those that the notebooks bring
nb_merge_streams = True
nb_output_stderr = "remove"  # warnings belong to the machine that the notebook ran on
myst_heading_anchors = 3  # [text](page.md#a-heading) works, as it does in Jupyter
myst_enable_extensions = []  # no mathematics: a script would have to come from another host

html_theme = "sphinx_book_theme"
html_static_path = ["static"]
html_favicon = "static/icon.svg"  # else a browser asks for one that is not there
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_copy_source = False  # the notebooks are the source, not the copies that are made of them
html_use_index = False  # the glossary is one
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is set
html_theme_options = {
    "footer_content_items": [],
    "use_download_button": False,
    "use_fullscreen_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "max_navbar_depth": 1,
    "navbar_persistent": [],  # one search button is enough: that of the sidebar
    "toc_title": "On this page",
}


def with_alt(render):
    """Give a figure its output's alternative text; MyST-NB reads only the cell's."""

    def render_image(self, data):
        (image,) = render(self, data)
        image["alt"] = data.output_metadata.get(data.mime_type, {}).get("alt", "")
        return [image]

    return render_image


NbElementRenderer.render_image = with_alt(NbElementRenderer.render_image)
