"""The report of a perturbation: one HTML file with its figures inside.

It is written for readers who know biology and not the code: what was done, how to read it, tables, figures.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .perturbation_canvas import Figure

if TYPE_CHECKING:
    import pandas as pd

GENES_SHOWN = 50
TEXT_COLUMNS = ("gene_id", "symbol", "gene_set", "model", "ranked_by")
SCORES_SHOWN = (
    "gene_set",
    "model",
    "ranked_by",
    "n_targets",
    "n_genes",
    "average_precision",
    "average_precision_random_low",
    "average_precision_random_high",
    "average_precision_p_value",
    "auroc",
    "auroc_p_value",
)
TOP_K_SHOWN = (
    "gene_set",
    "model",
    "ranked_by",
    "k",
    "hits",
    "precision",
    "precision_random_low",
    "precision_random_high",
    "recall",
    "f1",
    "p_value",
    "q_value",
)
EDIT_PHRASES = {
    "delete": "its token was removed from each cell, and later genes moved up by one rank",
    "delete-in-place": "its token was removed from each cell, all other genes keeping their ranks",
    "mask": "its token was replaced by <mask> in each cell, all other genes keeping their ranks",
    "overexpress": "its token was moved to the front of each cell, as if it were the strongest gene",
    "set-rank": "its token was moved to another rank of each cell",
    "features": "it was given other DNA features",
    "sequence": "it was given the DNA features of another sequence",
    "haplotypes": "it was given the DNA features of two edited haplotypes",
    "several": "several genes were edited at once, each in its own way",
    "random-mutations": "random bases around its transcription start site were changed",
}
HEADINGS = {
    "rank": "rank",
    "gene_id": "gene id",
    "symbol": "symbol",
    "n_cells": "cells",
    "cosine_mean": "mean cosine",
    "cosine_sd": "SD of cosine",
    "shift": "shift",
    "n_sham": "sham edits",
    "shift_sham": "usual shift",
    "shift_normalised": "log shift beyond usual",
    "rank_normalised": "rank beyond usual",
    "gene_set": "gene set",
    "n_given": "genes given",
    "n_in_vocabulary": "in the vocabulary",
    "n_tested": "tested",
    "shift_median": "median shift",
    "shift_median_others": "median shift of the others",
    "statistic": "U",
    "auc": "AUC",
    "p_value": "p",
    "q_value": "q (BH)",
    "auc_normalised": "AUC beyond usual",
    "p_value_normalised": "p beyond usual",
    "q_value_normalised": "q beyond usual",
    "shift_low": "shift, 95 % from",
    "shift_high": "to",
    "shift_standardised": "SDs beyond usual",
    "mean_rank": "mean rank",
    "share_of_cells": "share of cells",
    "noise_floor": "noise floor",
    "above_noise": "above noise",
    "p_moved": "probability that it moved",
    "ranked_by": "ranked by",
    "n_targets": "targets",
    "n_genes": "genes",
    "average_precision": "average precision",
    "average_precision_random_low": "by chance, 95 % from",
    "average_precision_random_high": "to",
    "average_precision_p_value": "p",
    "auroc": "AUROC",
    "auroc_p_value": "p of AUROC",
    "precision_random_low": "by chance, 95 % from",
    "precision_random_high": "to",
    "f1": "F1",
}

TABLE_MACRO = """{% macro table(rows) %}{% set columns = columns_of(rows) %}<table><thead><tr>
{%- for column in columns %}<th{% if column.is_text %} class="text"{% endif %}>{{ column.heading }}</th>{% endfor -%}
</tr></thead><tbody>
{%- for row in rows %}<tr>
{%- for column in columns %}<td{% if column.is_text %} class="text"{% endif %}>{{ number(row[column.name]) }}</td>
{%- endfor %}</tr>{% endfor -%}
</tbody></table>{% endmacro %}
"""

PAGE_STYLE = """body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f23; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #d8dde2; padding-bottom: .2rem; }
.lead { color: #4a545e; margin-top: .3rem; }
table { border-collapse: collapse; font-size: 13px; }
.scroll { overflow-x: auto; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #1b1f23; font-weight: 600; }
td { border-bottom: 1px solid #e6eaed; font-variant-numeric: tabular-nums; }
.text { text-align: left; }
.caution { border-left: 4px solid #d55e00; background: #fdf3ec; padding: .5rem .9rem;
  max-width: 44rem; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; }
figcaption, .note { color: #4a545e; font-size: 13px; max-width: 44rem; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: 13px; }
dt { color: #4a545e; }
dd { margin: 0; overflow-wrap: anywhere; }
"""

TEMPLATE = (
    TABLE_MACRO
    + """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ gene }}: perturbed genes</title>
<style>
"""
    + PAGE_STYLE
    + """</style>
</head>
<body>
<h1>What moves when {{ gene }} is edited</h1>
<p class="lead">In {{ count(summary.n_cells_with_gene) }} cells that express {{ gene }}, {{ phrase }}. The report
ranks {{ count(summary.n_genes) }} other genes by how far the model's picture of them moved.</p>
{% for text in cautions %}
<p class="caution">{{ text }}</p>
{% endfor %}

{% if notes %}
<h2>The edit</h2>
{% for text in notes %}
<p class="note">{{ text }}</p>
{% endfor %}
{% endif %}

<h2>How to read this</h2>
<p class="note">The model describes each gene of a cell by a vector that depends on all genes of that cell. The
<b>shift</b> of a gene is 1 minus the cosine similarity of its vector before and after the edit, averaged over the cells
that express it: 0 means that the edit left it as it was. Shifts say what the model has learned to connect with
{{ gene }}; they are no measurements, and a large shift alone is no proof of regulation.
{% if summary.sham_genes %}Since some genes move whatever is edited, each shift is also given relative to the gene's
<b>usual shift</b> under the same kind of edit at {{ summary.sham_genes | length }} other genes.{% endif %}</p>
<p class="note">Of {{ count(summary.n_cells) }} cells, {{ count(summary.n_cells_without_gene) }} lack {{ gene }} and
were not used.{% if summary.n_genes_in_fewer_cells_than_minimum %}
{{ count(summary.n_genes_in_fewer_cells_than_minimum) }} genes in fewer than {{ summary.minimum_cells }} cells are left
out.{% endif %}</p>

{% if sets %}
<h2>Gene sets</h2>
<div class="scroll">{{ table(sets) }}</div>
<p class="note">Wilcoxon rank-sum test of each set's shifts against those of all other genes ({{ alternative }});
q: Benjamini-Hochberg over the sets. AUC is the chance that a gene of the set shifts more than one outside it: 0.5 is no
difference.</p>
{% endif %}

{% if scores %}
<h2>Known targets among the genes that move most</h2>
<div class="scroll">{{ table(scores) }}</div>
<p class="note">Average precision is 1 where all targets come first; by chance, 95 % of random rankings of the same
genes lie in the range beside it, and p is the share of them that do as well. A model that does not lie above the range,
or not above plain co-expression, has not found these targets.</p>
<div class="scroll">{{ table(top_k) }}</div>
<p class="note">Among the k genes that move most. By chance: 95 % of random sets of k genes (hypergeometric); p: of as
many hits or more; q: Benjamini-Hochberg over all rows.</p>
{% endif %}

<h2>Figures</h2>
{% for figure in figures %}
<figure>
<img src="data:image/png;base64,{{ figure.data }}" alt="{{ figure.caption }}">
<figcaption>{{ figure.caption }}</figcaption>
</figure>
{% else %}
<p class="note">No gene was left to draw.</p>
{% endfor %}

<h2>The {{ genes | length }} most shifted genes</h2>
<div class="scroll">{{ table(genes) }}</div>
<p class="note">All genes are in genes.tsv, where the result was saved.</p>

<h2>How it was made</h2>
<dl>{% for key, value in details %}<dt>{{ key }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>
</body>
</html>
"""
)


def render_report(
    genes: "pd.DataFrame",
    sets: "pd.DataFrame",
    summary: Mapping[str, Any],
    figures: Sequence[Figure],
    *,
    recovery: Any = None,
) -> str:
    """The HTML text; everything that comes from data is escaped, and no other file is needed.

    Args:
        genes, sets, summary: of a PerturbationResult; the summary may have `edit_phrase`, what was done to the gene,
            and `edit_notes`, sentences on it.
        figures: of `draw_figures`.
        recovery: TargetRecovery, of this model or of several side by side.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    order = ["rank", "symbol", *[name for name in genes.columns if name not in ("rank", "symbol")]]
    return environment.from_string(TEMPLATE).render(
        gene=summary.get("symbol") or summary["gene_id"],
        phrase=_phrase(summary),
        cautions=cautions(summary),
        notes=summary.get("edit_notes", []),
        scores=[] if recovery is None else report_rows(recovery.scores, SCORES_SHOWN),
        top_k=[] if recovery is None else report_rows(recovery.top_k, TOP_K_SHOWN),
        summary=summary,
        alternative={
            "greater": "one-sided: the set shifts more",
            "less": "one-sided: the set shifts less",
            "two-sided": "two-sided",
        }[summary["alternative"]],
        genes=genes[order].head(GENES_SHOWN).to_dict("records"),
        sets=sets.to_dict("records"),
        figures=[{"caption": figure.caption, "data": base64.b64encode(figure.png).decode()} for figure in figures],
        details=_details(summary),
        count="{:,}".format,
        **report_values(),
    )


def cautions(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know before reading on: weights that were never trained on biology.

    Args:
        summary: may have `dna_weights_origin`, of the DNA model behind the gene features ("" or None where it is
            unknown), and `weights_origin`, of the model itself; a key that is absent says nothing.
    """
    said = []
    for key, name in (("dna_weights_origin", "DNA model"), ("weights_origin", "cell model")):
        origin = summary.get(key, "not asked")
        if origin is None or origin == "":
            said.append(
                f"It is not known where the weights of the {name} came from: unless they are pre-trained ones, nothing "
                "here is a claim about biology."
            )
        elif str(origin).lower().startswith("random"):
            said.append(
                f"The weights of the {name} are not pre-trained ({origin}): this report shows what the method does, "
                "and makes no claim about biology."
            )
    return said


def report_rows(table: "pd.DataFrame", columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a table of recovery for `TABLE_MACRO`, those of a gene set together."""
    ordered = table.sort_values("gene_set", kind="stable")
    return ordered[[name for name in columns if name in table]].to_dict("records")


def report_values() -> dict[str, Any]:
    """What `TABLE_MACRO` needs beside its rows."""
    return {"columns_of": _columns, "number": _number}


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = list(rows[0]) if rows else []
    return [{"name": name, "heading": HEADINGS.get(name, name), "is_text": name in TEXT_COLUMNS} for name in names]


def _number(value: Any) -> str:
    """Short, and exact where it is a whole number; a dash where there is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value != value or str(value) == "<NA>":
        return "–"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return f"{value:,}" if float(value).is_integer() and not isinstance(value, float) else f"{value:.4g}"


def _phrase(summary: Mapping[str, Any]) -> str:
    """What was done, by the caller's own words where it has any."""
    kind = summary["edit"]["kind"]
    return summary.get("edit_phrase") or EDIT_PHRASES.get(kind, f"an edit was made: {kind}")


def _details(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    details = []
    for key, value in summary.items():
        if key in ("edit_phrase", "edit_notes"):  # told above
            continue
        items = value.items() if isinstance(value, dict) else [("", value)]
        for inner, item in items:
            text = ", ".join(map(str, item)) if isinstance(item, list) else _number(item)
            details.append((f"{key} {inner}".strip().replace("_", " "), text or "–"))
    return details
