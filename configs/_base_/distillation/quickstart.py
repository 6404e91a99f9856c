"""The quickstart's teacher, and where it and its student are tapped."""

bev_extent = [-40.0, -40.0, 40.0, 40.0]

teacher = dict(
    config='configs/quickstart_object_dgcnn.py',
    checkpoint='work_dirs/quickstart/teacher/epoch_8.pth',
    inputs=['points'],
    tap=dict(module='pts_neck', index=0, grid=[64, 64], extent=bev_extent),
)
student_tap = dict(
    module='pts_bbox_head', source='input', layout='tokens', grid=[48, 48], extent=bev_extent
)
