"""What every run shares: the Runner, its hooks and environment."""

custom_imports = dict(imports=['backbones', 'comad.engine.register'], allow_failed_imports=False)
runner_type = 'BenchmarkRunner'
default_scope = 'mmengine'
default_hooks = dict(
    runtime_info=dict(type='DeferredInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    step_seed=dict(type='StepSeedHook'),
    wall_time=dict(type='WallTimeHook'),
    # Images/s, data wait and utilisation; a warning where more of the time is lost to data.
    throughput=dict(type='ThroughputHook', max_data_wait=0.1),
    preemption=dict(type='PreemptionHook'),
    # Unreadable images are listed in bad_images.txt; more than this share of them stops the run.
    bad_images=dict(type='BadImagesHook', max_bad_share=0.001),
    loss_check=dict(type='LossCheckHook'),
    plain_checkpoint=dict(type='PlainCheckpointHook'),
)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
log_processor = dict(type='BenchmarkLogProcessor')
log_level = 'INFO'
randomness = dict(seed=0)
