"""`dvc plots show` draws every plot of dvc.yaml in a browser that has no network."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, Request

pytestmark = pytest.mark.slow

TABLES = {
    "predicted_vs_human.csv": "model,prompt_id,fold,human_score,predicted_score\na,p,0,1.0,1.2\nb,p,0,2.0,1.9\n",
    "confusion.csv": "model,prompt_id,fold,human_score,grade\na,p,0,1.0,1.0\na,p,0,2.0,1.0\nb,p,0,2.0,2.0\n",
    "learning_curve.csv": "model,fold,epoch,loss,dev_qwk,learning_rate\na,0,1,0.5,0.4,0.1\na,0,2,0.4,0.5,0.1\n",
    "interval_bands.csv": (
        "model,prompt_id,fold,from_score,to_score,num_essays,coverage,mean_width\n"
        "a,p,0,1.0,2.0,10,0.9,1.0\nb,p,0,2.0,3.0,10,0.88,1.1\n"
    ),
}


@pytest.fixture
def plots_page(root: Path, tmp_path: Path) -> Path:
    """The page, made in a repository that has this one's plots and small tables of our own."""
    dvc = Path(sys.executable).with_name("dvc")
    subprocess.run([dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    shutil.copy(root / ".dvc" / "config", tmp_path / ".dvc" / "config")
    shutil.copytree(root / ".dvc" / "plots", tmp_path / ".dvc" / "plots", dirs_exist_ok=True)
    tables = tmp_path / "reports" / "plots"
    tables.mkdir(parents=True)
    for name, text in TABLES.items():
        (tables / name).write_text(text, "utf-8")
    plots = yaml.safe_load((root / "dvc.yaml").read_text("utf-8"))["plots"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": plots}), "utf-8")
    (tmp_path / ".dvc" / "config").write_text(
        (root / ".dvc" / "config").read_text("utf-8").replace("[core]", "[core]\n    no_scm = true", 1), "utf-8"
    )
    subprocess.run([dvc, "plots", "show"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "dvc_plots" / "index.html"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page()
    yield opened
    opened.close()


def test_every_plot_is_drawn_without_a_network(plots_page: Path, page: Page, root: Path) -> None:
    asked: list[Request] = []
    faults: list[object] = []
    page.on("request", lambda request: asked.append(request))
    page.on("pageerror", lambda fault: faults.append(fault))
    page.goto(plots_page.as_uri())
    page.wait_for_function("document.querySelectorAll('.vega-embed canvas, .vega-embed svg').length > 0")
    page.wait_for_timeout(300)
    assert faults == []
    assert [request.url for request in asked if not request.url.startswith(("file:", "data:", "blob:"))] == []
    wanted = len(yaml.safe_load((root / "dvc.yaml").read_text("utf-8"))["plots"])
    drawn = page.locator(".vega-embed canvas, .vega-embed svg.marks")
    assert drawn.count() == wanted
    boxes = [drawn.nth(index).bounding_box() for index in range(wanted)]
    assert all(box and box["width"] > 200 and box["height"] > 200 for box in boxes)
