#!/usr/bin/env bash
# transformers 5.23.0: a config that is given a size under its family's own name and under the common one takes the common
# one in silence, whatever the order, by arguments and from a dict as config.json holds it. So whoever sets `n_layer` of a
# GPT-2, Bloom or MPT, where a default beside it already says `num_hidden_layers`, gets the default's model.
# Seen: 2 layers each time, of n_layer(s)=3 with num_hidden_layers=2; 3 where the own name stands alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0
cat > "$folder/seen.py" <<'PY'
import transformers
from transformers import AutoConfig

OWN_NAMES = {"gpt2": "n_layer", "bloom": "n_layer", "mpt": "n_layers"}


def layers_of(family, **sizes):
    by_arguments = AutoConfig.for_model(family, **sizes)
    from_dict = type(by_arguments).from_dict({"model_type": family, **sizes})
    own = OWN_NAMES[family]
    return [getattr(one, name) for one in (by_arguments, from_dict) for name in (own, "num_hidden_layers")]


for family, own in OWN_NAMES.items():
    own_first = layers_of(family, **{own: 3, "num_hidden_layers": 2})
    own_last = layers_of(family, **{"num_hidden_layers": 2, own: 3})
    own_alone = layers_of(family, **{own: 3})
    print(f"transformers {transformers.__version__}, {family}: {own_first} {own_last} {own_alone}")
    assert own_first == own_last == [2, 2, 2, 2]
    assert own_alone == [3, 3, 3, 3]
PY
"$folder/env/bin/python" "$folder/seen.py"
