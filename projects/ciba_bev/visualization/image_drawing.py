"""Draw boxes and LiDAR points into camera images."""

from __future__ import annotations

import cv2
import numpy as np

from .box_projection import BOX_EDGES, FRONT_FACE, box_corners, project_points, project_segments

_SUBPIXEL_BITS = 4
_FAR_OUTSIDE = 20_000
# Points from this many metres on are blue.
_FAR_DEPTH = 50.0
_POINT_RADIUS = 1.5


def _to_fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Convert pixel coordinates with the first pixel's centre at (0.5, 0.5) to OpenCV's."""
    limited = np.clip(pixels - 0.5, -_FAR_OUTSIDE, _FAR_OUTSIDE)
    return np.round(limited * 2**_SUBPIXEL_BITS).astype(np.int32)


def draw_boxes_on_image(
    image: np.ndarray,
    boxes: np.ndarray,
    lidar2img: np.ndarray,
    colours: list[tuple[int, int, int]],
    scores: np.ndarray | None = None,
) -> np.ndarray:
    """Draw boxes as wire frames with tinted front faces.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 7 or more) in the LiDAR frame: centre, extents (m), yaw (rad).
        lidar2img: (4, 4) LiDAR frame to homogeneous pixels of this image.
        colours: RGB colour of each box.
        scores: (N,) scores to print beside the boxes, or None.

    Returns:
        A copy of the image with the boxes; near boxes are drawn over far ones.
    """
    drawn = np.ascontiguousarray(image).copy()
    if len(boxes) == 0:
        return drawn
    corners = box_corners(boxes)
    _, depth = project_points(np.asarray(boxes, dtype=np.float64)[:, :3], lidar2img)
    for index in np.argsort(-depth):
        segments = corners[index][np.array(BOX_EDGES)]
        ends, visible = project_segments(segments, lidar2img)
        if not visible.any() or not _touches_image(ends[visible], drawn.shape):
            continue
        colour = tuple(int(value) for value in colours[index])
        face, face_depth = project_points(corners[index][list(FRONT_FACE)], lidar2img)
        if (face_depth > 0.1).all():
            tinted = drawn.copy()
            cv2.fillConvexPoly(
                tinted, _to_fixed_point(face), colour, cv2.LINE_AA, shift=_SUBPIXEL_BITS
            )
            drawn = cv2.addWeighted(tinted, 0.3, drawn, 0.7, 0)
        for start, end in _to_fixed_point(ends[visible]):
            cv2.line(
                drawn,
                tuple(start.tolist()),
                tuple(end.tolist()),
                colour,
                1,
                cv2.LINE_AA,
                shift=_SUBPIXEL_BITS,
            )
        if scores is not None:
            corner = ends[visible].reshape(-1, 2).min(axis=0)
            _write_score(drawn, f'{scores[index]:.2f}', corner, colour)
    return drawn


def _touches_image(ends: np.ndarray, shape: tuple[int, ...]) -> bool:
    low, high = ends.min(axis=(0, 1)), ends.max(axis=(0, 1))
    return bool(high[0] > 0 and high[1] > 0 and low[0] < shape[1] and low[1] < shape[0])


def _write_score(image: np.ndarray, text: str, corner: np.ndarray, colour: tuple[int, ...]) -> None:
    scale = 0.36
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left = int(np.clip(corner[0], 0, max(0, image.shape[1] - width)))
    base = int(np.clip(corner[1] - 2, height + 1, image.shape[0] - 1))
    cv2.rectangle(image, (left, base - height - 1), (left + width, base + 2), (20, 20, 20), -1)
    cv2.putText(image, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def depth_colours(depth: np.ndarray) -> np.ndarray:
    """Return the colours of depths, from red (near) to blue (far).

    Args:
        depth: (N,) metres.

    Returns:
        (N, 3) uint8 RGB.
    """
    share = np.clip(1.0 - np.asarray(depth) / _FAR_DEPTH, 0.0, 1.0)
    levels = np.round(255 * share).astype(np.uint8).reshape(-1, 1)
    return cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:, 0, ::-1]


def draw_points_on_image(
    image: np.ndarray, points: np.ndarray, lidar2img: np.ndarray
) -> np.ndarray:
    """Draw LiDAR points, coloured by depth.

    Args:
        image: (H, W, 3) uint8 RGB.
        points: (N, 3 or more) in the LiDAR frame, metres.
        lidar2img: (4, 4) LiDAR frame to homogeneous pixels of this image.

    Returns:
        A copy of the image with the points; near points are drawn over far ones.
    """
    drawn = np.ascontiguousarray(image).copy()
    pixels, depth = project_points(np.asarray(points, dtype=np.float64)[:, :3], lidar2img)
    height, width = drawn.shape[:2]
    inside = (depth > 0.5) & (pixels >= 0).all(axis=1)
    inside &= (pixels[:, 0] < width) & (pixels[:, 1] < height)
    order = np.flatnonzero(inside)[np.argsort(-depth[inside])]
    fixed_radius = round(_POINT_RADIUS * 2**_SUBPIXEL_BITS)
    for centre, colour in zip(_to_fixed_point(pixels[order]), depth_colours(depth[order])):
        cv2.circle(
            drawn,
            tuple(centre.tolist()),
            fixed_radius,
            tuple(colour.tolist()),
            -1,
            cv2.LINE_AA,
            shift=_SUBPIXEL_BITS,
        )
    return drawn
