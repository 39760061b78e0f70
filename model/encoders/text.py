"""Short texts: a transformer over their tokens, and a bag of n-grams.

    tokens (B, L) -- transformer -- mean and attention pooling (2 * X) --.
    grams, gram_values (B, G) -- weighted sum of embeddings (W) ---------+-- trunk; wide = the sum alone
    scene (B,) ------ embedding (S) -------------------------------------'

With ten thousand short texts a linear model of n-grams learns most of the signal and a transformer with random weights little;
a pretrained transformer (`TextInputs.path`) the other way round. So the encoder has both, and the tasks' towers weigh them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.encoders.encoded import Encoded, Sizes
from model.encoders.past import PADDING_SCORE
from model.encoders.scene import SceneEncoder, nearest_code
from model.inputs import TextInputs
from model.presets import NetworkShape


class GramEncoder(nn.Module):
    """The sum of n-gram embeddings, each times its value: a linear layer over it is a linear model of a bag of n-grams.

    A gather and a product, because ONNX has no embedding bag.
    """

    def __init__(self, buckets: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, width, padding_idx=0)
        nn.init.normal_(self.table.weight, std=width**-0.5)  # so that sums of texts are as similar as their n-grams
        with torch.no_grad():
            self.table.weight[0].zero_()

    def forward(self, grams: Tensor, values: Tensor) -> Tensor:
        """(B, G) int32 buckets, 0 = none, and (B, G) float32 -> (B, W) float32; a value that is not finite counts 0."""
        embedded = self.table(nearest_code(grams, self.table.num_embeddings))  # (B, G, W)
        finite = torch.where(torch.isfinite(values), values, torch.zeros_like(values)).unsqueeze(1)  # (B, 1, G)
        return torch.matmul(finite, embedded).squeeze(1)


class TextEncoder(nn.Module):
    """A Hugging Face transformer and n-grams.

    Args:
        shape: of the network.
        inputs: sizes of the texts.
        config: JSON of the transformer's Hugging Face configuration, from a checkpoint; "" = from `inputs`.

    Raises:
        OSError: `inputs.path` is neither a folder with a model nor the name of an available model.
        ValueError: The model has fewer tokens or positions than `inputs`.
    """

    def __init__(self, shape: NetworkShape, inputs: TextInputs, config: str = "") -> None:
        super().__init__()
        self.transformer = _transformer(shape, inputs, config)
        read = _config(self.transformer)
        self.padding, self.vocabulary = int(read.pad_token_id or 0), int(read.vocab_size)
        width = int(read.hidden_size)
        self.attend = nn.Linear(width, 1)
        self.grams = GramEncoder(inputs.gram_buckets, shape.grams) if inputs.grams else None
        self.scene = SceneEncoder(inputs.scenes, shape.context) if inputs.scenes else None
        self.drop = nn.Dropout(shape.dropout)
        grams, scene = shape.grams if inputs.grams else 0, shape.context if inputs.scenes else 0
        self.sizes = Sizes(
            trunk=2 * width + grams + scene,
            wide=grams or 2 * width,
            wide_kinds=("binary", "classes"),
            scene=scene,
            scenes=inputs.scenes,
        )

    def config(self) -> str:
        """Return the transformer's configuration as JSON, for a checkpoint."""
        return json.dumps(_config(self.transformer).to_dict())

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Encode B rows of `TextInputs`."""
        words = self.drop(self.read(inputs["tokens"]))  # (B, 2X)
        parts, wide = [words], words
        if self.grams is not None:
            wide = self.drop(self.grams(inputs["grams"], inputs["gram_values"]))  # (B, W)
            parts.append(wide)
        scene, code = self.scene(inputs["scene"]) if self.scene is not None else (None, None)  # (B, S), (B,)
        parts += [scene] if scene is not None else []
        return Encoded(trunk=torch.cat(parts, dim=1), wide=wide, scene=scene, scene_code=code)

    def read(self, tokens: Tensor) -> Tensor:
        """(B, L) int32 tokens -> (B, 2 * X) float32: the mean of the contextual embeddings, and their mean by attention."""
        real = tokens != self.padding  # (B, L)
        codes = nearest_code(tokens, self.vocabulary)
        # The first position is always attended: a text of padding only must not become 0/0 inside the transformer.
        mask = real | (torch.arange(tokens.shape[1], device=tokens.device) == 0)  # (B, L)
        contextual = self.transformer(input_ids=codes, attention_mask=mask.to(torch.int64)).last_hidden_state  # (B, L, X)
        ones = real.to(contextual.dtype).unsqueeze(2)  # (B, L, 1)
        mean = (contextual * ones).sum(dim=1) / ones.sum(dim=1).clamp(min=1.0)  # (B, X)
        scores = self.attend(contextual) + (1.0 - ones) * PADDING_SCORE  # (B, L, 1)
        weights = torch.softmax(scores, dim=1) * ones  # (B, L, 1), all 0 for a text of padding
        return torch.cat([mean, (contextual * weights).sum(dim=1)], dim=1)


def _config(transformer: nn.Module) -> Any:  # noqa: ANN401  # Hugging Face's models and configurations have no types
    return transformer.config


def _transformer(shape: NetworkShape, inputs: TextInputs, config: str) -> nn.Module:
    import transformers  # slow to import: only for networks that read texts

    hub: Any = transformers
    if config:
        fields = json.loads(config)
        model: nn.Module = hub.AutoModel.from_config(hub.AutoConfig.for_model(fields.pop("model_type"), **fields))
    elif inputs.path:
        model = hub.AutoModel.from_pretrained(inputs.path)
    else:
        model = hub.AutoModel.from_config(hub.BertConfig(**_small(shape, inputs)))
    tokens = _config(model).vocab_size
    if tokens < inputs.vocabulary:
        raise ValueError(f"{inputs.path} knows {tokens} tokens, the data has {inputs.vocabulary}: take its own tokenizer")
    if getattr(model, "pooler", None) is not None:
        setattr(model, "pooler", None)  # noqa: B010  # a layer over the first token, which is not used here
    return model


def _small(shape: NetworkShape, inputs: TextInputs) -> dict[str, Any]:
    """Return the configuration of a BERT of the shape's sizes."""
    return {
        "vocab_size": inputs.vocabulary,
        "hidden_size": shape.text,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.attention_heads,
        "intermediate_size": 2 * shape.text,
        "max_position_embeddings": inputs.length,
        "hidden_dropout_prob": shape.dropout / 2,
        "attention_probs_dropout_prob": shape.dropout / 2,
    }
