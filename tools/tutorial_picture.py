"""Draw docs/images/leipzig_map.png: the scene with its labels beside the map with its polygons.

python tools/tutorial_picture.py FOLDER

FOLDER is where the commands of docs/tutorial.md ran.
"""

import io
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from adapteo.figures import true_colour

OUT = Path(__file__).parents[1] / "docs" / "images" / "leipzig_map.png"


def draw(folder: Path, out: Path) -> None:
    """Draw the picture from the files of the tutorial."""
    with rasterio.open(folder / "scenes/s2_leipzig_8band_utm32.tif") as scene:
        image = true_colour(scene.read(masked=True).filled(np.nan)[:3] * 1e-4, ("blue", "green", "red"))
        left, bottom, right, top = scene.bounds
    with rasterio.open(folder / "map.tif") as mapped:
        values, colours = mapped.read(1), mapped.colormap(1)
    points = gpd.read_file(folder / "scenes/s2_leipzig_landcover_points.gpkg")
    polygons = gpd.read_file(folder / "map.gpkg", layer="map")
    names = sorted(points["land_cover"].unique())
    shade = {name: np.array(colours[i][:3]) / 255 for i, name in enumerate(names)}

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    extent = (left, right, bottom, top)
    axes[0].imshow(image, extent=extent)
    for name in names:
        chosen = points[points["land_cover"] == name].geometry
        axes[0].scatter(chosen.x, chosen.y, s=22, color=shade[name], edgecolor="white", linewidth=0.7)
    picture = np.ones((*values.shape, 3))
    for i, name in enumerate(names):
        picture[values == i] = shade[name]
    axes[1].imshow(picture, extent=extent)
    polygons.boundary.plot(ax=axes[1], color="black", linewidth=0.35)
    for ax, title in zip(axes, (f"the scene and its {len(points)} points", "map.tif and map.gpkg"), strict=True):
        ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], xlabel="", ylabel="", title=title)
    handles = [Patch(color=shade[name], label=name) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names), frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    Image.open(drawn).convert("RGB").quantize(96).save(out, optimize=True)  # a quarter of the size


if __name__ == "__main__":
    draw(Path(sys.argv[1]), OUT)
