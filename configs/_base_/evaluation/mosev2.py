"""The scores of MOSEv2 beside J&F: J&Ḟ, and its means where objects go and return."""

mosev2_accumulators = [
    dict(type='JFAccumulator'),
    dict(type='JFMosev2Accumulator'),
    dict(type='MaskletRecorder', max_videos=2, max_frames=40),
]
mosev2_evaluator = [dict(type='JFMetric'), dict(type='JFMosev2Metric')]
