"""HTML pages rendered from Jinja2 templates with autoescape: self-contained, no network requests.

A template of any package extends `base.html` of this one; `parts.html` has the macros for facts, tables and rows of charts.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

from stream_app.errors import ConfigError

if TYPE_CHECKING:
    from jinja2 import Environment


def require_packages(purpose: str, packages: Iterable[str], extra: str) -> None:
    """Look for packages of an extra before the work begins that would end with them.

    Raises:
        ConfigError: One of them is not installed.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{purpose} needs {' and '.join(missing)}: pip install 'millrace[{extra}]'")


def render_page(package: str, template: str, values: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]) -> str:
    """Return a page.

    Args:
        package: whose folder `templates` holds the template.
        template: file name.
        values: variables of the template, `title` among them.
        filters: by name, besides those of Jinja2 and `svg`.
    """
    return page_environment(package, filters).get_template(template).render(values)


def page_environment(package: str, filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """Return the Jinja2 environment of one page.

    Its filter `svg` inlines a chart of `reporting.charts`, with ids that are unique on the page.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    charts = count()

    def inlined(chart: str) -> Markup:
        prefix = f"p{next(charts)}-"
        return Markup(re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", chart))  # noqa: S704  # SVG drawn by ourselves

    loader = ChoiceLoader([PackageLoader(package), PackageLoader("stream_app.reporting")])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {**filters, "svg": inlined, "count": "{:,}".format}
    return environment
