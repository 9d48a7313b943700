"""Parameters and gradients on a GPU, for algorithms that work with them there."""

import numpy as np

from hpcasr.comm.staged import Slotted
from hpcasr.errors import BadInput
from hpcasr.model.params import SLOTS, Params, fit, spans


class DeviceParams(Params):
    """As Params: `data` and `grad` lie on the device, `slots` on the host, where they are looked at.

    device             cuda_device.Gpu
    buffer, memory     as of Params, on the device; None: allocate
    gradient           Slotted
    """

    def __init__(self, shapes, device, buffer=None, memory=None):
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.spans, self.device = spans(self.shapes), device
        self.size = sum(hi - lo for lo, hi in self.spans.values())
        self.data, self.grad = (device.zeros(self.size) if given is None else fit(given, self.size, np.float32)
                                for given in (buffer, memory))
        self.slots = np.zeros(SLOTS, np.float32)
        self.gradient = Slotted(self.grad, self.slots)
        self.views, self.g = self.named(self.data), self.named(self.grad)

    def state(self):
        return {'params': self.device.host(self.data)}

    def load(self, state):
        values = np.ascontiguousarray(state['params'], np.float32)
        if values.shape != self.data.shape:
            raise BadInput(f'{values.size} parameters given, this model has {self.size}; use the configuration that '
                           'they were trained with')
        self.device.upload(self.data, values)
        self.device.synchronize()
