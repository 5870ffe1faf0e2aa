"""The rows of `--growth` as a picture: a group of bars for each title."""

import html

WIDTH, LEFT, LONGEST, LINE = 720, 96, 480, 22
PAGE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"
 font-family="sans-serif" font-size="13" fill="#222">
<rect width="{width}" height="{height}" fill="white"/>
{lines}
</svg>
"""


def text(x, y, content, more=""):
    return f'<text x="{x}" y="{y}"{more}>{html.escape(content)}</text>'


def bar(row, y, most, digits):
    yield text(LEFT - 8, y, f"{row['amount']:,}", ' text-anchor="end"')
    if "value" not in row:
        yield text(LEFT, y, row["wrong"])
        return
    length = round(LONGEST * max(0, row["value"]) / most, 1)
    yield f'<rect x="{LEFT}" y="{y - 12}" width="{length}" height="15" fill="#4878a8"/>'
    yield text(LEFT + length + 6, y, digits(row["value"]))


def svg(groups, digits):
    """`groups` are a title each, the longest value and the rows."""
    lines, y = [], 0
    for title, most, rows in groups:
        y += LINE + 10
        lines.append(text(16, y, title, ' font-weight="bold"'))
        for row in rows:
            y += LINE
            lines += bar(row, y, most, digits)
    return PAGE.format(width=WIDTH, height=y + 16, lines="\n".join(lines))
