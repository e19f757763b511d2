"""Registers all of the suite's classes; configs name it in ``custom_imports``."""

import backbones
import comad.data.cifar  # noqa: F401
import comad.data.faults  # noqa: F401
import comad.data.imagenet  # noqa: F401
import comad.data.preprocessor  # noqa: F401
import comad.data.video  # noqa: F401
import comad.distill  # noqa: F401
import comad.engine.autocast  # noqa: F401
import comad.engine.checkpointing  # noqa: F401
import comad.engine.exact_data  # noqa: F401
import comad.engine.hooks  # noqa: F401
import comad.engine.linear_loop  # noqa: F401
import comad.engine.loops  # noqa: F401
import comad.engine.runner  # noqa: F401
import comad.engine.warm_up  # noqa: F401
import comad.evaluation  # noqa: F401
import comad.evaluation.layer_decay  # noqa: F401
import comad.methods  # noqa: F401

backbones.register()  # which its own import leaves out where MMEngine came later
