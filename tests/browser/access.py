"""Can everybody read a page? What axe finds serious, and what does not fit a phone."""

from axe_playwright_python.sync_playwright import Axe

WORST = ("serious", "critical")
AT_REST = "() => Promise.allSettled(document.getAnimations().map(moving => moving.finished))"


def serious(page):
    """Return a sentence for each place of a page at rest that axe calls serious or critical.

    At rest: a colour on its way to another, as buttons have while a page opens, is nobody's choice.
    """
    page.evaluate(AT_REST)
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:120]}"
        for rule in found
        if rule["impact"] in WORST
        for node in rule["nodes"]
    ]


def too_wide(page):
    """Return by how many pixels a page is wider than its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def reached(page, presses):
    """Return the ids of what the tab key reaches, one after the other."""
    found = []
    for _ in range(presses):
        page.keyboard.press("Tab")
        found.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    return found
