"""Mixed precision of ONNX graphs by the rule of ``torch.autocast``.

Products of matrices, convolutions and attention compute in float16. What follows them
without further arithmetic stays in float16, all else is in float32: norms square their
input, sums of residual branches grow, and coordinates need more bits.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..ops import import_optional

if TYPE_CHECKING:
    import onnx_ir as ir

PRODUCTS = {
    'Attention',
    'Conv',
    'ConvTranspose',
    'Gemm',
    'MatMul',
    'MultiHeadAttention',
}
# Operators that only move or rectify their first input; other inputs are integers.
FOLLOWERS = {
    'Expand',
    'Gelu',
    'MaxPool',
    'Relu',
    'Reshape',
    'Slice',
    'Split',
    'Squeeze',
    'Transpose',
    'Unsqueeze',
}


def use_half_precision(model: 'ir.Model') -> None:
    """Convert a model of float32, in place; its inputs and outputs keep their types."""
    _Conversion(model).run()


class _Conversion:
    """Conversion of a model; values are visited in the order of computation."""

    def __init__(self, model: 'ir.Model') -> None:
        self.ir: Any = import_optional('onnx_ir', purpose='Exporting in float16')
        self.graph = model.graph
        self.in_half: set[ir.Value] = set()  # outputs that are float16 now
        self.casts: dict[tuple[ir.Value, Any, ir.Graph | None], ir.Value] = {}

    def run(self) -> None:
        self.convert(self.graph)
        for name, value in tuple(self.graph.initializers.items()):
            if not value.uses():
                del self.graph.initializers[name]

    def convert(self, graph: 'ir.Graph') -> None:
        """Convert a graph, and before a node the graphs of its branches."""
        float32, float16 = self.ir.DataType.FLOAT, self.ir.DataType.FLOAT16
        for node in tuple(graph):
            for attribute in node.attributes.values():
                if attribute.type == self.ir.AttributeType.GRAPH:
                    self.convert(attribute.as_graph())
            if node.op_type in PRODUCTS:
                for index, value in enumerate(node.inputs):
                    if value is not None and value.dtype == float32:
                        node.replace_input_with(index, self.cast(value, float16, node))
            elif bias := self.bias_of(node):
                node.replace_input_with(
                    node.inputs.index(bias), self.cast(bias, float16, node)
                )
            elif node.op_type not in FOLLOWERS or node.inputs[0] not in self.in_half:
                for index, value in enumerate(node.inputs):
                    if value in self.in_half:
                        node.replace_input_with(index, self.cast(value, float32, node))
                continue
            for output in node.outputs:
                output.dtype = float16
                self.in_half.add(output)
        for index, output in enumerate(graph.outputs):
            if output in self.in_half:
                self.restore_output(graph, index, output)

    def bias_of(self, node: 'ir.Node') -> 'ir.Value | None':
        """Bias of a linear layer that a node adds to a product, or None."""
        others = [value for value in node.inputs if value not in self.in_half]
        if node.op_type != 'Add' or len(others) != 1 or others[0] is None:
            return None
        return others[0] if others[0].is_initializer() else None

    def cast(self, value: 'ir.Value', dtype: Any, user: 'ir.Node') -> 'ir.Value':
        """Value in another type, before the first node that uses it."""
        if value.dtype == dtype:
            return value
        # A branch does not see what another one has computed.
        graph = None if value.is_initializer() else user.graph
        if (value, dtype, graph) not in self.casts:
            name = f'{value.name}_{dtype.name.lower()}'
            if graph is None:
                weight: Any = value.const_value
                array = weight.numpy().astype(np.float16)
                result = self.ir.val(name, const_value=self.ir.tensor(array, name=name))
                self.graph.register_initializer(result)
            else:
                node = self.ir.node('Cast', [value], attributes={'to': dtype})
                graph.insert_before(user, node)
                result = node.outputs[0]
                result.name, result.dtype, result.shape = name, dtype, value.shape
                if graph is not self.graph:
                    result.name += f'_{graph.name}'
            self.casts[value, dtype, graph] = result
        return self.casts[value, dtype, graph]

    def restore_output(self, graph: 'ir.Graph', index: int, output: 'ir.Value') -> None:
        """Cast an output of a graph back to float32, under its own name."""
        name, float32 = output.name, self.ir.DataType.FLOAT
        output.name = f'{name}_float16'
        node = self.ir.node('Cast', [output], attributes={'to': float32})
        graph.append(node)
        result = node.outputs[0]
        result.name, result.dtype, result.shape = name, float32, output.shape
        graph.outputs[index] = result
