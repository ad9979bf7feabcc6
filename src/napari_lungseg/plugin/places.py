"""Images, the layers painted on them, which slice of which is on screen, and going to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari.layers import Image, Labels

from .layers import KEY, layer_facts, same_grid
from .painting import image_id, painting_of
from .previews import is_preview
from .slice_bar import Place


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and the layer that is painted on it."""

    image: Image
    labels: Labels


def images_in(pairs: Sequence[Pair]) -> list[Image]:
    """The images of pairs, each once; their order is that of `Place`."""
    return list(dict.fromkeys(pair.image for pair in pairs))


def layers_on(pairs: Sequence[Pair], image: Image) -> list[Labels]:
    """The layers that are painted on an image."""
    return [pair.labels for pair in pairs if pair.image is image]


def images_of(viewer: Any) -> list[Image]:
    """Images that could be painted on, the lowest first."""
    return [layer for layer in viewer.layers if isinstance(layer, Image) and not is_preview(layer)]


def candidates(viewer: Any, image: Image) -> list[Labels]:
    """Labels layers on an image's grid, the likeliest first: painted on it, named after it, or else the latest."""
    facts = layer_facts(image)
    found = []
    for place, layer in enumerate(viewer.layers):
        if not isinstance(layer, Labels) or is_preview(layer):
            continue
        painting = painting_of(layer)
        if painting is not None and painting.image_id != image_id(image):
            continue
        if same_grid(layer_facts(layer), facts):
            found.append((painting is None, image.name not in layer.name, -place, layer))
    return [entry[-1] for entry in sorted(found, key=lambda entry: entry[:-1])]


def active_pair(viewer: Any, pairs: Sequence[Pair]) -> Pair | None:
    """The pair of the active layer, else the topmost that is visible, else the first."""
    active = viewer.layers.selection.active
    for pair in pairs:
        if active is not None and active is pair.labels:
            return pair
    for pair in reversed(pairs):
        if active is not None and active is pair.image:
            return pair
    return next((pair for pair in reversed(pairs) if pair.image.visible), pairs[0] if pairs else None)


def active_image(viewer: Any) -> Image | None:
    """The active image, else the one under the active labels, else the topmost."""
    active, images = viewer.layers.selection.active, images_of(viewer)
    for image in images:
        if image == active:
            return image
    under = image_under(viewer, active) if isinstance(active, Labels) else None
    return under or (images[-1] if images else None)


def active_result(viewer: Any) -> Labels | None:
    """The active Labels layer if a program made it, else the latest such layer that nobody corrects yet; or None."""
    results = [layer for layer in viewer.layers if _is_result(layer)]
    active = viewer.layers.selection.active
    return next((layer for layer in results if layer == active), results[-1] if results else None)


def image_under(viewer: Any, layer: Labels) -> Image | None:
    """The image that a layer was made for, else the first of its size."""
    stored, painting = layer.metadata.get(KEY, {}), painting_of(layer)
    wanted = painting.image_id if painting is not None else stored.get("result_of", ("",))[0]
    fitting = [image for image in images_of(viewer) if layer_facts(image).shape == tuple(layer.data.shape)]
    return next((image for image in fitting if image_id(image) == wanted), fitting[0] if fitting else None)


def _is_result(layer: Any) -> bool:
    """Whether a program made a Labels layer, and nobody corrects it yet."""
    if not isinstance(layer, Labels) or is_preview(layer) or painting_of(layer) is not None:
        return False
    stored = layer.metadata.get(KEY, {})
    return "result_of" in stored or bool(stored.get("record"))


def classes_of(pairs: Sequence[Pair]) -> tuple[dict[int, str], dict[int, str]]:
    """Names and colours of all classes of painted layers, without the painted background."""
    names: dict[int, str] = {}
    colours: dict[int, str] = {}
    for pair in pairs:
        stored, painting = pair.labels.metadata[KEY], painting_of(pair.labels)
        background = {0, painting.background if painting is not None else 0}
        names |= {label: name for label, name in stored.get("names", {}).items() if label not in background}
        colours |= {label: colour for label, colour in stored.get("colours", {}).items() if label not in background}
    return dict(sorted(names.items())), colours


def slice_on_screen(viewer: Any, layer: Any) -> int | None:
    """The slice of a layer that is on screen; None in 3-D, across the slices, or outside of the layer."""
    if layer.ndim == 2:
        return 0
    dims = viewer.dims
    first = dims.ndim - layer.ndim
    if dims.ndisplay != 2 or first in dims.displayed:
        return None
    index = round(float(layer.world_to_data(dims.point)[0]))
    return index if 0 <= index < layer.data.shape[0] else None


def place_on_screen(viewer: Any, pairs: Sequence[Pair]) -> Place | None:
    """The (image, slice) that somebody looks at."""
    pair = active_pair(viewer, pairs)
    index = None if pair is None else slice_on_screen(viewer, pair.labels)
    return None if pair is None or index is None else (images_in(pairs).index(pair.image), index)


def show_only(pairs: Sequence[Pair], pair: Pair) -> None:
    """Of several images that take part, hide those that would cover this one."""
    if len(images_in(pairs)) > 1:
        for other in pairs:
            other.image.visible = other.labels.visible = other.image is pair.image


def go_to(viewer: Any, pairs: Sequence[Pair], place: Place) -> None:
    """Show a slice, ready to be painted."""
    image, active = images_in(pairs)[place[0]], viewer.layers.selection.active
    layers = layers_on(pairs, image)
    layer = active if active in layers else layers[-1]
    show_only(pairs, Pair(image, layer))
    viewer.layers.selection.active = layer
    go_to_slice(viewer, layer, place[1])


def go_to_slice(viewer: Any, layer: Any, index: int) -> None:
    """Show a slice of a layer across its first axis; nothing for a layer that is one image."""
    if layer.ndim == 2:
        return
    dims = viewer.dims
    first = dims.ndim - layer.ndim
    if dims.ndisplay != 2 or first in dims.displayed:
        dims.ndisplay = 2
        dims.order = tuple(range(dims.ndim))
    place = [0.0] * layer.ndim
    place[0] = index
    dims.set_point(first, layer.data_to_world(place)[0])
