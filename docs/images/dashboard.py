#!/usr/bin/env python3
"""Draws docker/grafana/dashboards/ctmgate.json without a Grafana: asks a Prometheus for what each panel's own expressions
give, and lays the panels out as the dashboard does. For the picture in docs/operations.md, and to look at changes.

    docs/images/dashboard.py http://127.0.0.1:9090 dashboard.png [MINUTES [END, in seconds since 1970]]

Wants matplotlib (Debian: python3-matplotlib), and with it Pillow. It knows the kinds of panels that the dashboard has, and
no more.
"""
import datetime
import json
import math
import pathlib
import re
import sys
import textwrap
import time
import urllib.parse
import urllib.request

import matplotlib
import PIL.Image

matplotlib.use("Agg")
import matplotlib.dates as dates  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import FancyBboxPatch, Rectangle  # noqa: E402

BOARD = pathlib.Path(__file__).parents[2] / "docker/grafana/dashboards/ctmgate.json"
STEP = 5  # seconds
RATE_INTERVAL = "30s"  # what Grafana would choose: some scrapes
COLORS = {"green": "#56a64b", "red": "#d44a3a", "orange": "#ff9830", "semi-dark-orange": "#e57f00", "yellow": "#e0b400",
          "blue": "#3274d9", "purple": "#a352cc", "text": "#555555", "transparent": "none"}
PALETTE = ["#3274d9", "#ff9830", "#56a64b", "#a352cc", "#d44a3a", "#e0b400", "#37872d", "#8f3bb8"]


def color(name):
    return COLORS.get(name, name)


class Prometheus:
    def __init__(self, url, begin, end):
        self.url, self.begin, self.end = url, begin, end

    def get(self, path, **params):
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(params)}") as answer:
            return json.load(answer)["data"]["result"]

    def now(self, target):
        return self.get("query", query=expression(target), time=self.end)

    def over_time(self, target):
        return self.get("query_range", query=expression(target), start=self.begin, end=self.end, step=STEP)


def expression(target):
    text = target["expr"].replace("$__rate_interval", RATE_INTERVAL)
    return re.sub(r"\$(job|instance|environment)\b", ".+", text)


def shown(value, unit, decimals):
    if math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.{decimals}f}%"
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "s" and value >= 60:
        return f"{int(value // 60)} min {int(value % 60)} s" if value < 600 else f"{value / 60:.1f} min"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
    return f"{value:.{decimals}f}"


def threshold(steps, value):
    found = steps[0]["color"]
    for step in steps[1:]:
        if value >= step["value"]:
            found = step["color"]
    return color(found)


def mapped(mappings, value):
    for mapping in mappings:
        option = mapping.get("options", {}).get(f"{value:g}")
        if option:
            return option["text"]
    return None


def legend(target, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda m: labels.get(m[1], ""), target.get("legendFormat", "")).strip() or "(no name)"


def override(panel, name):
    for rule in panel["fieldConfig"]["overrides"]:
        how, what = rule["matcher"]["id"], rule["matcher"]["options"]
        if how == "byName" and what == name or how == "byRegexp" and re.search(what, name):
            for prop in rule["properties"]:
                if prop["id"] == "color":
                    return color(prop["value"]["fixedColor"])
    return None


def draw_stat(ax, panel, prometheus):
    defaults = panel["fieldConfig"]["defaults"]
    result = prometheus.now(panel["targets"][0])
    text, back = defaults.get("noValue", "–"), "#8e8e8e"
    if result:
        value = float(result[0]["value"][1])
        text = mapped(defaults["mappings"], value) or shown(value, defaults["unit"], defaults["decimals"])
        back = threshold(defaults["thresholds"]["steps"], value)
    ax.add_patch(Rectangle((0.02, 0.06), 0.96, 0.72, transform=ax.transAxes, color=back, lw=0))
    ax.text(0.5, 0.42, text, transform=ax.transAxes, ha="center", va="center", color="white", weight="bold",
            fontsize=20 if len(text) < 8 else 12)


def draw_series(ax, panel, prometheus):
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    lines = []
    for target in panel["targets"]:
        for one in prometheus.over_time(target):
            lines.append((legend(target, one["metric"]), {int(t): float(v) for t, v in one["values"]}))
    lines.sort(key=lambda line: line[0])
    times = list(range(int(prometheus.begin), int(prometheus.end) + 1, STEP))
    axis = [datetime.datetime.fromtimestamp(t) for t in times]
    chosen = [override(panel, name) or PALETTE[i % len(PALETTE)] for i, (name, _) in enumerate(lines)]
    if stacked and lines:
        heights = [[v.get(t, 0.0) if not math.isnan(v.get(t, 0.0)) else 0.0 for t in times] for _, v in lines]
        ax.stackplot(axis, heights, colors=chosen, labels=[name for name, _ in lines], alpha=0.75, lw=0)
    for (name, values), c in zip(lines, chosen) if not stacked else ():
        ax.plot(axis, [values.get(t, math.nan) for t in times], color=c, lw=1.2, label=name)
    for step in defaults.get("thresholds", {}).get("steps", [])[1:]:
        ax.axhline(step["value"], color=COLORS["red"], lw=0.8, ls="--")
    ax.set_xlim(axis[0], axis[-1])
    ax.set_ylim(bottom=0)
    unit = defaults["unit"]
    kind = {"reqps": lambda v: f"{v:g}/s", "s": lambda v: f"{v / 60:g} min" if v >= 120 else f"{v:g} s",
            "bytes": lambda v: f"{v / 2**20:.0f} MiB"}.get(unit, lambda v: f"{v:g}")
    if unit == "s" and ax.get_ylim()[1] > 200:
        ax.yaxis.set_major_locator(plt.MultipleLocator(120))
    ax.yaxis.set_major_formatter(lambda v, _: kind(v))
    ax.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    ax.xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=7))
    ax.tick_params(labelsize=6.5, colors="#666666", length=2)
    ax.grid(color="#e8e8e8", lw=0.6)
    for side in ax.spines.values():
        side.set_visible(False)
    if lines:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=3 if max(len(n) for n, _ in lines) < 25 else 2,
                  fontsize=5.8, frameon=False, handlelength=1, columnspacing=1)


def draw_timeline(ax, panel, prometheus):
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    target = panel["targets"][0]
    rows = sorted((legend(target, one["metric"]), one["values"]) for one in prometheus.over_time(target))
    for row, (_, values) in enumerate(reversed(rows)):
        for t, v in values:
            begin = dates.date2num(datetime.datetime.fromtimestamp(t))
            ax.add_patch(Rectangle((begin, row + 0.1), STEP / 86400, 0.8, lw=0, color=threshold(steps, float(v))))
    ax.set_yticks([i + 0.5 for i in range(len(rows))], [name for name, _ in reversed(rows)])
    ax.set_ylim(0, max(len(rows), 1))
    ax.set_xlim(*(datetime.datetime.fromtimestamp(t) for t in (prometheus.begin, prometheus.end)))
    ax.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    ax.tick_params(labelsize=6.5, colors="#666666", length=0)
    for side in ax.spines.values():
        side.set_visible(False)


def draw_table(ax, panel, prometheus):
    rename = panel["transformations"][1]["options"]["renameByName"]
    rows, columns = {}, []
    keys = ["instance", "environment", "account"]
    for target in panel["targets"]:
        column = rename["Value #" + target["refId"]]
        columns.append(column)
        for one in prometheus.now(target):
            rows.setdefault(tuple(one["metric"].get(k, "") for k in keys), {})[column] = float(one["value"][1])
    settings = {rule["matcher"]["options"]: {p["id"]: p["value"] for p in rule["properties"]}
                for rule in panel["fieldConfig"]["overrides"]}
    names = [rename.get(k, k) for k in keys] + columns
    widths = [0.155, 0.115, 0.095] + [0.635 / len(columns)] * len(columns)
    lefts = [sum(widths[:i]) for i in range(len(widths))]
    height = min(0.86 / (len(rows) + 1), 0.15)
    for name, left in zip(names, lefts):
        ax.text(left + 0.008, 0.88, name, transform=ax.transAxes, fontsize=7, weight="bold", color="#444444", va="center")
    order = sorted(rows.items(), key=lambda row: (row[1].get("usable", 1), row[0]))
    for number, (key, values) in enumerate(order):
        y = 0.82 - (number + 1) * height
        for name, left, width in zip(names, lefts, widths):
            back, text = "none", ""
            if name in values:
                have, value = settings.get(name, {}), values[name]
                if "thresholds" in have:
                    back = threshold(have["thresholds"]["steps"], value)
                text = mapped(have.get("mappings", []), value) or shown(value, have.get("unit"), have.get("decimals", 0))
            elif name not in columns:
                text = key[[rename.get(k, k) for k in keys].index(name)]
            ax.add_patch(Rectangle((left + 0.003, y + 0.008), width - 0.006, height - 0.016, transform=ax.transAxes, color=back, lw=0))
            ax.text(left + 0.008, y + height / 2, text, transform=ax.transAxes, fontsize=7.5, va="center",
                    color="#333333" if back == "none" else "white")


def draw_text(ax, panel, _):
    y = 0.9
    for line in panel["options"]["content"].splitlines():
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line.removeprefix("- ")).replace("**", "").replace("`", "")
        head, _, rest = plain.partition(": ")
        ax.text(0.02, y, head, transform=ax.transAxes, fontsize=7, color="#3274d9", va="top")
        wrapped = textwrap.wrap(rest, 74)
        ax.text(0.28, y, "\n".join(wrapped), transform=ax.transAxes, fontsize=7, color="#333333", va="top", linespacing=1.25)
        y -= 0.052 + 0.063 * len(wrapped)


DRAW = {"stat": draw_stat, "timeseries": draw_series, "state-timeline": draw_timeline, "table": draw_table, "text": draw_text}


def main():
    url, out = sys.argv[1:3]
    minutes = float(sys.argv[3]) if len(sys.argv) > 3 else 15
    end = float(sys.argv[4]) if len(sys.argv) > 4 else time.time()
    prometheus = Prometheus(url.rstrip("/"), end - minutes * 60, end)
    board = json.loads(BOARD.read_text())
    rows = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"])
    width, cell, head = 15.0, 0.31, 0.4
    height = rows * cell + head
    figure = plt.figure(figsize=(width, height), facecolor="#f4f5f5")
    figure.text(0.008, 1 - head / 2 / height, board["title"], fontsize=14, weight="bold", va="center", color="#333333")
    for panel in board["panels"]:
        at = panel["gridPos"]
        left, bottom = at["x"] / 24, (rows - at["y"] - at["h"]) * cell / height
        w, h = at["w"] / 24, at["h"] * cell / height
        figure.add_artist(FancyBboxPatch((left + 0.0025, bottom + 0.0025), w - 0.005, h - 0.005, boxstyle="square,pad=0",
                                         transform=figure.transFigure, facecolor="white", edgecolor="#dddddd", lw=0.8, zorder=-1))
        figure.text(left + 0.007, bottom + h - 0.0105, panel["title"], fontsize=8, weight="bold", va="center", color="#444444", zorder=5)
        plain = panel["type"] in ("stat", "text", "table")
        pad = 0 if plain else 0.03 if panel["type"] == "timeseries" else 0.105
        low = 0 if plain else 0.26 * h if panel["type"] == "timeseries" else 0.16 * h
        ax = figure.add_axes((left + pad + 0.004, bottom + low + 0.003, w - pad - 0.012, h - low - 0.022))
        ax.patch.set_alpha(0)
        if plain:
            ax.axis("off")
        DRAW[panel["type"]](ax, panel, prometheus)
    figure.savefig(out, dpi=100)
    PIL.Image.open(out).convert("RGB").quantize(256, kmeans=2).save(out, optimize=True)  # a third of the size


main()
