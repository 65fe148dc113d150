"""Records to one HTML file, to the terminal and to JSON; without torch."""

from thalweg.report.page import write as write
from thalweg.report.page import write_findings as write_findings
from thalweg.report.terminal import as_json as as_json
from thalweg.report.terminal import finding_json as finding_json
from thalweg.report.terminal import render as render
from thalweg.report.terminal import text as text
