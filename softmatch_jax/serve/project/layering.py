"""Commands about one class on one picture: prompts, brush, promotion."""

from __future__ import annotations

from collections.abc import Callable

from softmatch_jax._checks import InputError
from softmatch_jax._types import Labels
from softmatch_jax.prompting import draw_polyline
from softmatch_jax.serve.project.commands import AddPrompt, ClearLayer, DeletePrompt, OnLayer, Paint, Promote
from softmatch_jax.serve.project.documents import (
    Box,
    Digest,
    ImageDocument,
    LayerDocument,
    Point,
    Prompt,
    PromptDocument,
)
from softmatch_jax.serve.project.errors import ConflictError, NotFoundError
from softmatch_jax.serve.project.rasters import paint
from softmatch_jax.serve.project.showing import shown
from softmatch_jax.serve.project.state import Changes, State


def open_image(state: State, iid: str) -> ImageDocument:
    """A picture that may be worked on; raises ``ConflictError`` where it is accepted or rejected."""
    image = state.image(iid)
    if image.status == "accepted":
        raise ConflictError(f"{image.name} is accepted and locked; reopen it first.", image=iid)
    if image.status == "rejected":
        raise ConflictError(f"{image.name} is rejected; reopen it first.", image=iid)
    return image


def check_size(image: ImageDocument, labels: Labels) -> None:
    """Raises ``InputError`` unless a raster is as large as its picture."""
    if labels.shape != (image.height, image.width):
        raise InputError(
            f"The mask is {labels.shape[1]}x{labels.shape[0]} pixels and {image.name} is "
            f"{image.width}x{image.height}; expected the same size (export the mask at the picture's size)."
        )


def add_prompt(state: State, command: AddPrompt, new_id: Callable[[str], str]) -> Changes:
    """Draws a prompt.

    On a layer whose prompts already show their mask it is one more of them, whatever is shown: that mask may
    still be on its way. Else it starts anew from what is shown, or from nothing.
    """
    image, layer = _opened(state, command)
    _check_on_picture(command.prompt, image)
    there = state.documents.group(_prompts(command))
    changes: Changes = {}
    if not there or layer.painted is not None:
        base = _checked_shown(state, command, command.shown)
        # Earlier prompts are in what was painted; completing them again would undo the brush.
        changes |= dict.fromkeys(there)
        changes[_layer(command)] = LayerDocument(reference=layer.reference or base is None, base=base)
    order = 1 + max((prompt.order for prompt in state.prompts(command.image, command.class_)), default=0)
    changes[f"{_prompts(command)}/{new_id('p')}"] = PromptDocument(order=order, prompt=command.prompt)
    return changes


def delete_prompt(state: State, command: DeletePrompt) -> Changes:
    """Takes a prompt away; after the last one, what they corrected shows again, as painted."""
    image, layer = _opened(state, command)
    there = state.documents.group(_prompts(command))
    key = f"{_prompts(command)}/{command.prompt}"
    if key not in there:
        raise NotFoundError(f"There is no prompt {command.prompt} on {image.name}; it may have been deleted.")
    changes: Changes = {key: None}
    if len(there) == 1:
        painted = layer.painted or layer.base
        left = LayerDocument(reference=layer.reference, painted=painted)
        changes[_layer(command)] = None if painted is None else left
    return changes


def clear_layer(state: State, command: ClearLayer) -> Changes:
    """Takes away the prompts and what was painted."""
    image, _ = _opened(state, command)
    changes: Changes = dict.fromkeys(state.documents.group(_prompts(command)))
    if state.get(_layer(command)) is not None:
        changes[_layer(command)] = None
    if not changes:
        raise ConflictError(f"Nothing was drawn on {image.name} that could be cleared.", image=command.image)
    return changes


def paint_layer(
    state: State,
    command: Paint,
    read: Callable[[Digest], Labels],
    put: Callable[[Labels], Digest],
) -> Changes:
    """Brushes the shown mask. One that is all erased stays so, but is no reference: it shows nothing."""
    image, layer = _opened(state, command)
    before = _checked_shown(state, command, command.shown)
    if before is None and not any(stroke.add for stroke in command.strokes):
        raise ConflictError(f"No mask is shown on {image.name} that could be erased.", image=command.image)
    labels = None if before is None else read(before)
    painted = paint(labels, (image.height, image.width), command.strokes)
    if before is None and not painted.any():
        raise InputError(f"The strokes lie outside {image.name}; expected one that touches the picture.")
    update = {"painted": put(painted), "reference": layer.reference and bool(painted.any())}
    return {_layer(command): layer.model_copy(update=update)}


def promote(state: State, command: Promote, read: Callable[[Digest], Labels]) -> Changes:
    """Marks the shown mask as a reference, keeping one that was found as it is, or takes the mark away."""
    image, layer = _opened(state, command)
    if not command.reference:
        if not layer.reference:
            raise ConflictError(f"The mask on {image.name} is no reference.", image=command.image)
        return {_layer(command): layer.model_copy(update={"reference": False})}
    digest = _checked_shown(state, command, command.shown)
    if digest is None:
        raise ConflictError(f"No mask is shown on {image.name} that could be promoted.", image=command.image)
    if not read(digest).any():
        raise InputError(f"The mask on {image.name} is empty; a reference needs pixels (paint some first).")
    update: dict[str, object] = {"reference": True}
    if not state.documents.group(_prompts(command)):
        update["painted"] = digest
    return {_layer(command): layer.model_copy(update=update)}


def _opened(state: State, command: OnLayer) -> tuple[ImageDocument, LayerDocument]:
    """The picture, which must be open, and the layer of a command."""
    image = open_image(state, command.image)
    state.class_(command.class_)
    return image, state.layer(command.image, command.class_)


def _checked_shown(state: State, command: OnLayer, said: Digest | None) -> Digest | None:
    """What is shown; raises ``ConflictError`` unless it is what the command was made on."""
    now = shown(state, command.image, command.class_)
    if said != now:
        name, picture = state.class_(command.class_).name, state.image(command.image).name
        raise ConflictError(
            f"The mask of {name} on {picture} has changed since this was drawn; look at it again, and "
            "draw it once more if it is still needed.",
            image=command.image,
        )
    return now


def _check_on_picture(prompt: Prompt, image: ImageDocument) -> None:
    """Raises ``InputError`` where a prompt marks no pixel of the picture."""
    width, height = image.width, image.height
    if isinstance(prompt, Box):
        if not (prompt.x0 < prompt.x1 and prompt.y0 < prompt.y1):
            raise InputError(
                f"The box is ({prompt.x0:g}, {prompt.y0:g}) to ({prompt.x1:g}, {prompt.y1:g}); expected "
                "x0 < x1 and y0 < y1."
            )
        there = prompt.x0 < width and prompt.x1 > 0 and prompt.y0 < height and prompt.y1 > 0
    elif isinstance(prompt, Point):
        there = 0 <= prompt.xy[0] < width and 0 <= prompt.xy[1] < height
    else:
        there = any(0 <= x < width and 0 <= y < height for x, y in prompt.points) or bool(
            draw_polyline(prompt.points, prompt.width, (height, width)).any()
        )
    if not there:
        raise InputError(
            f"The {prompt.kind} lies outside {image.name}, which is {width}x{height} pixels; expected one "
            "that touches the picture."
        )


def _layer(command: OnLayer) -> str:
    return f"layer/{command.image}/{command.class_}"


def _prompts(command: OnLayer) -> str:
    return f"prompt/{command.image}/{command.class_}"
