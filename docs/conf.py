"""Settings of Sphinx: ``bash tools/build_docs.sh`` builds the site."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / '_ext'))

project = 'mmsam2'
author = 'the mmsam2 authors'
project_copyright = author
version = release = installed_version('mmsam2')

extensions = [
    'myst_nb',  # Markdown and notebooks
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
    'sphinx_design',
    'registered_parts',
]
exclude_patterns = ['_build', '_ext', '**.ipynb_checkpoints']

# --------------------------------------------------------------------- Markdown
myst_enable_extensions = ['colon_fence', 'deflist', 'fieldlist']
# Links such as `data.md#options-of-all-sources`, as GitHub makes them.
myst_heading_anchors = 4
# Notebooks are shown with the outputs that docs/notebooks/run.py has written.
nb_execution_mode = 'off'

# -------------------------------------------------------------------- reference
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
add_module_names = False

# ------------------------------------------------------------------------- site
html_theme = 'furo'
html_title = 'SAM 2 in MMEngine'
html_static_path = ['_static']
html_css_files = ['site.css']
html_theme_options = {
    'top_of_page_buttons': [],
    'light_css_variables': {'color-brand-primary': '#0b6bcb'},
    'dark_css_variables': {'color-brand-primary': '#6cb2ff'},
}
# A block that starts with a prompt is copied without it.
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True

# ------------------------------------------------------------------------ links
linkcheck_anchors = False
linkcheck_timeout = 20
