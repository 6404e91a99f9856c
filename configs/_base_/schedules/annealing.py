"""Warm-up to a rate, then a cosine to a hundredth of it: for schedules of any length.

``end`` of the warm-up in steps, ``T_max`` and ``end`` of the cosine in epochs are the schedule's.
"""

warm_up = dict(type='LinearLR', start_factor=0.1, begin=0, by_epoch=False)
cosine = dict(type='CosineAnnealingLR', eta_min_ratio=1e-2, begin=0, convert_to_iter_based=True)
