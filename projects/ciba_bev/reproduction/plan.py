"""The trainings that a result needs, and their order, as the configs themselves state it.

A distillation config names the configs of its teacher and bottleneck, and a bottleneck config those
of its teacher and student. Each is trained once for each seed, with the earlier runs of that seed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Sequence

from mmengine.config import Config

from ..classification.best_epoch_hook import BEST_CHECKPOINT
from ..engine.step_runner import Step
from ..errors import CibaError

SCORES = 'metrics.json'


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        config: Name of the config, without folder and ending.
        seed: Of weights, data order and noise.
        size: Bottleneck size H that replaces the config's own.
    """

    config: str
    seed: int
    size: int | None = None

    @property
    def name(self) -> str:
        """Return the name of its folder and records."""
        size = '' if self.size is None else f'_h{self.size}'
        return f'{self.config}{size}_seed{self.seed}'


@dataclass
class Plan:
    """The steps of any number of runs: each once, and after the steps whose results it uses.

    Attributes:
        root: The project's folder, which holds ``configs`` and ``tools``.
        work_dir: The folder that holds a folder for each run.
        options: By the prefix of a data set's configs, ``key=value`` overrides of those configs
            that have the key.
        processes: Processes (GPUs) of one training.
        first_steps: By the same prefix, a step that comes before all trainings of that data set.
        label: Prefix of the names of the trainings' steps, to join plans with different data; each
            of them needs its own ``work_dir``.
        frozen_seed: Seed of the models that others are trained with; that of the other where None.
        elsewhere: By the name of a config, the plan that trains it, where that is not this one.
    """

    root: Path
    work_dir: Path
    options: dict[str, list[str]] = field(default_factory=dict)
    processes: int = 1
    first_steps: dict[str, Step] = field(default_factory=dict)
    label: str = ''
    frozen_seed: int | None = None
    elsewhere: dict[str, Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._steps: dict[str, Step] = {}
        self._configs: dict[str, Config] = {}

    @property
    def steps(self) -> list[Step]:
        """Return the steps planned so far, each after those that it waits for."""
        return list(self._steps.values())

    def read(self, config: str) -> Config:
        """Return a config, without overrides, by its name."""
        if config not in self._configs:
            self._configs[config] = Config.fromfile(str(self.root / 'configs' / f'{config}.py'))
        return self._configs[config]

    def folder(self, run: Run) -> Path:
        """Return the folder that a run writes to."""
        return self.work_dir / run.name

    def step_name(self, run: Run) -> str:
        """Return the name of a run's step, for later steps to wait for."""
        return f'{self.label}{run.name}'

    def checkpoint(self, run: Run) -> Path:
        """Return the checkpoint for later runs: of the best epoch, or of the last."""
        cfg = self.read(run.config)
        if _chooses_best(cfg):
            return self.folder(run) / BEST_CHECKPOINT
        return self.folder(run) / f'epoch_{self.setting(run.config, "train_cfg.max_epochs")}.pth'

    def trained_config(self, run: Run) -> Path:
        """Return the config with all overrides, which training writes to the run's folder."""
        return self.folder(run) / f'{run.config}.py'

    def score(self, run: Run, split: str, metric: str) -> float:
        """Return a score of a finished run.

        Args:
            run: A training that chooses its best epoch.
            split: ``'validation'`` or ``'test'``.
            metric: Full name of the metric.

        Raises:
            CibaError: The run is not complete, or has no such metric.
        """
        file = self.folder(run) / SCORES
        scores = read_json(file)[split]
        if metric not in scores:
            raise CibaError(f'{file} has no {metric}; it has {", ".join(scores)}.')
        return scores[metric]

    def add(self, run: Run) -> Run:
        """Plan a run and the earlier runs that it needs.

        Args:
            run: The training.

        Returns:
            The same run.
        """
        name = self.step_name(run)
        if name in self._steps:
            return run
        cfg = self.read(run.config)
        after, options = [], [f'randomness.seed={run.seed}', *self.options_of(run.config)]
        dataset = self._dataset_of(run.config)
        if dataset in self.first_steps:
            first = self.first_steps[dataset]
            self._steps.setdefault(first.name, first)
            after.append(first.name)
        for role in ('teacher', 'student', 'bottleneck'):
            part = cfg.model.get(role)
            # A distiller's student is trained here; a part with a checkpoint is an earlier run.
            if not part or 'checkpoint' not in part:
                continue
            earlier_config = Path(part.config).stem
            plan = self.elsewhere.get(earlier_config, self)
            seed = run.seed if self.frozen_seed is None else self.frozen_seed
            earlier = plan.add(Run(earlier_config, seed))
            after.append(plan.step_name(earlier))
            # The config that training wrote, with all its overrides.
            options.append(f'model.{role}.config={plan.trained_config(earlier)}')
            options.append(f'model.{role}.checkpoint={plan.checkpoint(earlier)}')
        outputs = [self.checkpoint(run)]
        if run.size is not None:
            options.append(f'model.bottleneck.size={run.size}')
        if 'bottleneck_sizes' in cfg.model:
            spectra = self.folder(run) / 'bottlenecks.json'
            options += [f'model.seed={run.seed}', f'val_evaluator.out_file={spectra}']
            outputs.append(spectra)
        elif _chooses_best(cfg):
            outputs.append(self.folder(run) / SCORES)
        self._steps[name] = Step(
            name,
            f'Train {name}',
            self._command(run, options),
            outputs,
            after=after,
            config=f'configs/{run.config}.py',
            folder=self.folder(run),
            resumes=True,
        )
        return run

    def add_score(self, run: Run, plain_config: str) -> Path:
        """Plan the scoring of a detector's last epoch.

        Args:
            run: Its training.
            plain_config: Name of the config it is scored with.

        Returns:
            The file that the metrics are written to.
        """
        self.add(run)
        scores = self.folder(run) / SCORES
        name = f'score_{self.step_name(run)}'
        config = f'configs/{plain_config}.py'
        command = [*self._launch('tools/test.py'), config, str(self.checkpoint(run))]
        command += ['--work-dir', str(self.folder(run)), '--out', str(scores)]
        options = self.options_of(plain_config)
        command += ['--cfg-options', *options] if options else []
        self._steps[name] = Step(
            name,
            f'Score {self.step_name(run)}',
            [*command, *self._launcher()],
            [scores],
            after=[self.step_name(run)],
            config=config,
        )
        return scores

    def add_step(self, step: Step) -> None:
        """Plan a step other than a training, after planning those that it waits for."""
        self._steps[step.name] = step

    def _command(self, run: Run, options: Sequence[str]) -> list[str]:
        return [
            *self._launch('tools/train.py'),
            f'configs/{run.config}.py',
            '--work-dir',
            str(self.folder(run)),
            '--cfg-options',
            *options,
            *self._launcher(),
        ]

    def _launch(self, tool: str) -> list[str]:
        if self.processes == 1:
            return [tool]
        return ['-m', 'torch.distributed.run', f'--nproc_per_node={self.processes}', tool]

    def _launcher(self) -> list[str]:
        return [] if self.processes == 1 else ['--launcher', 'pytorch']

    def _dataset_of(self, config: str) -> str | None:
        names = {*self.options, *self.first_steps}
        return next((name for name in names if config.startswith(name)), None)

    def options_of(self, config: str) -> list[str]:
        """Return the overrides of a config beside those of its run."""
        dataset = self._dataset_of(config)
        chosen = self.options.get(dataset, [])
        cfg = self.read(config)
        return [option for option in chosen if _has(cfg, option.split('=', 1)[0])]

    def setting(self, config: str, key: str) -> Any:
        """Return a number or list of a config, overrides included, by its dotted key."""
        overrides = dict(option.split('=', 1) for option in self.options_of(config))
        if key in overrides:
            return json.loads(overrides[key])
        return reduce(getattr, key.split('.'), self.read(config))


def existing(path: Path) -> Path:
    """Return the path of an existing file.

    Raises:
        CibaError: The file does not exist.
    """
    if not path.is_file():
        raise CibaError(f'{path} is missing: run the same command again.')
    return path


def read_json(path: Path) -> Any:
    """Return the content of a JSON file that a step has written.

    Raises:
        CibaError: The file does not exist.
    """
    return json.loads(existing(path).read_text(encoding='utf-8'))


def _chooses_best(cfg: Config) -> bool:
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    keepers = ('ciba_bev.BestEpochHook', 'ciba_bev.BestBottleneckHook')
    return any(hook.type in keepers for hook in hooks if hook)


def _has(cfg: Config, key: str) -> bool:
    """Return whether a config has a dotted key; ``_delete_`` is a part that every dict has."""
    value = cfg
    for part in key.split('.'):
        if not isinstance(value, (Config, dict)) or part not in (*value, '_delete_'):
            return False
        value = value.get(part)
    return True
