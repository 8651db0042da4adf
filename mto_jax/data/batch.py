# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The arrays of a batch: B rows of S input and T target positions, one or more examples a row."""

from typing import Any, NotRequired, TypedDict

Array = Any  # of numpy on the host, of JAX on devices


class Batch(TypedDict):
    """Rows for an encoder-decoder; int32 unless said otherwise.

    Segments, one per example, count from 1 in each row; 0 is padding. Positions restart in every
    segment. The decoder's input tokens are the targets shifted right inside each segment, beginning
    with 0.
    """

    encoder_input_tokens: Array  # [B, S]
    encoder_segment_ids: Array  # [B, S]
    encoder_positions: Array  # [B, S]
    decoder_target_tokens: Array  # [B, T]
    decoder_input_tokens: Array  # [B, T]
    decoder_segment_ids: Array  # [B, T]
    decoder_positions: Array  # [B, T]
    decoder_loss_weights: Array  # float32 [B, T]
    decoder_task_ids: NotRequired[Array]  # [B, T]: 1 + index of the example's task, 0 for padding
