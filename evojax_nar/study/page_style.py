"""What the page of a study looks like beyond other pages: wider, panels in a grid, keys of arms."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import final

from evojax_nar import plots
from evojax_nar.page_parts import Cell, text
from evojax_nar.study import plots as study_plots

STYLE = """
body { max-width: 84rem; }
p, .notes { max-width: 62rem; }
thead th.words { text-align: left; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
.unequal { border-left-width: .6rem; font-weight: 600; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 1rem 0; }
nav a, a:visited { color: inherit; }
.rows { font-size: .85rem; }
.rows th, .rows td { padding: .3rem .4rem; }
td.tied { font-style: italic; }
th:first-child .place { display: none; }
.arm { min-width: 8.5rem; }
.key { display: inline-block; width: 2.2rem; height: .8rem; margin-right: .4rem;
  background: #fff center / contain no-repeat; border-radius: .15rem; vertical-align: baseline;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .6rem 0; padding: 0;
  list-style: none; font-size: .9rem; }
.legend li { overflow-wrap: anywhere; }
.panels { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
.panels figure { margin: 0; display: flex; flex-direction: column-reverse;
  justify-content: flex-end; }
.panels figure img { max-width: 26rem; }
.panels figcaption { font-weight: 600; overflow-wrap: anywhere; }
.three { margin-bottom: .8rem; }
.one figure img { max-width: 40rem; }
@media (min-width: 56rem) { .three { grid-template-columns: repeat(3, 1fr); } }
@media (max-width: 40rem) { th:first-child .place { display: block; } .where { display: none; }
  .arm { min-width: 5rem; max-width: 7.5rem; } }
@media print { .rows { font-size: 6.5pt; } .rows th, .rows td { padding: .1rem .15rem; }
  .panels, .three { grid-template-columns: repeat(3, 1fr); } nav { display: none; }
  .arm { min-width: 4rem; } .panels figure, tr { break-inside: avoid; }
  table.rows { break-inside: auto; } }
"""


@final
class Keys:
    """How each arm of a study looks, the same in all figures and tables.

    Args:
      arms: their names, in order.
    """

    def __init__(self, arms: Sequence[str]) -> None:
        looks = plots.looks(len(arms)) if arms else []
        self.looks = dict(zip(arms, looks, strict=True))
        self._places = {arm: place for place, arm in enumerate(arms)}

    def style(self) -> str:
        """Rules that draw the keys."""
        found = []
        for arm, look in self.looks.items():
            data = base64.b64encode(plots.png(study_plots.key(look))).decode()
            image = f"url(data:image/png;base64,{data})"
            found.append(f".key-{self._places[arm]} {{ background-image: {image}; }}")
        return "\n".join(found)

    def cell(self, arm: str, place: str = "", note: str = "") -> Cell:
        """The first cell of a row of an arm; `place` is shown where the page is narrow."""
        below = f'<small class="place">{text(place)}</small>' if place else ""
        below += f"<small>{text(note)}</small>" if note else ""
        return Cell(f'<span class="arm">{self._key(arm)}{text(arm)}{below}</span>', arm)

    def legend(self, arms: Iterable[str]) -> str:
        """The keys of some arms with their names."""
        items = "".join(f"<li>{self._key(arm)}{text(arm)}</li>" for arm in arms)
        return f'<ul class="legend">{items}</ul>'

    def _key(self, arm: str) -> str:
        return f'<span class="key key-{self._places[arm]}"></span>'
