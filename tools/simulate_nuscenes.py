"""Simulate a driving world and write it in the nuScenes format.

Examples:
    python tools/simulate_nuscenes.py --out data/simulated --seed 0
    python tools/simulate_nuscenes.py --out data/tiny --scenes scene-0061 scene-0103 \
        --frames-per-scene 4 --image-size 64 36
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from pathlib import Path

from ciba_bev.errors import CibaError, exit_with_message
from nuscenes_simulation import (
    SimulationError,
    SimulationSettings,
    resolve_scene_names,
    simulate_nuscenes,
)
from nuscenes_simulation.settings import VERSIONS


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        arguments: The words after the program's name (default: those of this process).

    Returns:
        The parsed arguments.
    """
    defaults = SimulationSettings()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', required=True, help='data root to create')
    parser.add_argument(
        '--scenes',
        nargs='+',
        default=[],
        metavar='N|NAME',
        help='how many scenes, or nuScenes scene names (the ten scenes of v1.0-mini)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the world (%(default)s)')
    parser.add_argument(
        '--version',
        default=defaults.version,
        choices=VERSIONS,
        help='nuScenes version to imitate (%(default)s)',
    )
    parser.add_argument(
        '--frames-per-scene',
        type=int,
        default=defaults.frames_per_scene,
        help='key frames per scene, half a second apart (%(default)s)',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        metavar=('W', 'H'),
        default=(defaults.image_width, defaults.image_height),
        help='size of the camera images in pixels (%(default)s)',
    )
    parser.add_argument(
        '--supersampling',
        type=int,
        default=defaults.supersampling,
        help='rays along each side of a pixel (%(default)s)',
    )
    parser.add_argument('--lidar-beams', type=int, default=defaults.lidar_beams, help='%(default)s')
    parser.add_argument(
        '--lidar-azimuth-steps',
        type=int,
        default=defaults.lidar_azimuth_steps,
        help="LiDAR columns in a turn; nuScenes' sensor has about 1080 (%(default)s)",
    )
    parser.add_argument(
        '--lidar-range',
        type=float,
        default=defaults.lidar_range,
        help="range of the LiDAR in metres; that of nuScenes' sensor is about 100 (%(default)s)",
    )
    parser.add_argument(
        '--sweeps-per-keyframe',
        type=int,
        default=defaults.sweeps_per_keyframe,
        help='LiDAR sweeps between two key frames; nuScenes has 9 (%(default)s)',
    )
    parser.add_argument(
        '--visibility',
        type=float,
        default=defaults.visibility,
        metavar='METRES',
        help='meteorological visibility of the cameras in fog; the LiDAR sees through it '
        '(%(default)s: no fog)',
    )
    parser.add_argument(
        '--can-bus', action='store_true', help="also write the CAN bus expansion's poses"
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=min(2, os.cpu_count() or 1),
        help='processes; they do not change the files (%(default)s)',
    )
    parser.add_argument(
        '--picture', help='where to draw one sample as PNG (sample.png in the data root)'
    )
    parser.add_argument('--no-picture', action='store_true', help='draw no sample')
    parser.add_argument('--traceback', action='store_true', help='show the full trace of an error')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Simulate the data set and draw a sample of it.

    Args:
        arguments: The words after the program's name (default: those of this process).
    """
    args = parse_args(arguments)
    started = time.monotonic()

    def run() -> None:
        try:
            width, height = args.image_size
            fields = {field.name for field in dataclasses.fields(SimulationSettings)}
            chosen = {name: value for name, value in vars(args).items() if name in fields}
            settings = SimulationSettings(**chosen, image_width=width, image_height=height)
            scene_names = resolve_scene_names(args.scenes, args.version)
            root = simulate_nuscenes(
                args.out, scene_names, args.seed, settings, workers=args.workers, show_progress=True
            )
        except SimulationError as error:
            # The simulation does not depend on this package and its errors.
            raise CibaError(str(error)) from error
        seconds = round(time.monotonic() - started)
        frames = len(scene_names) * settings.frames_per_scene
        print(f'{frames} key frames of {len(scene_names)} scenes in {root} after {seconds} s')
        if not args.no_picture:
            # Slow to import, and not needed without a picture.
            from ciba_bev.visualization.key_frame import draw_key_frame

            picture = Path(args.picture or root / 'sample.png')
            draw_key_frame(root, args.version, picture)
            print(f'a sample is drawn in {picture}')

    try:
        exit_with_message(run, args.traceback)
    except KeyboardInterrupt:
        print('\nStopped; nothing was written.', file=sys.stderr)
        sys.exit(130)


if __name__ == '__main__':
    main()
