"""sae_core: sparse dictionaries for language models, after *Towards Monosemanticity*.

One file for one idea; each reads from top to bottom:

text          corpus, pocket, installed_code, tokens
the model     language_model, ngrams, pretraining, bundle
the training  activations, autoencoder, variants, objective, step, gpu, resampling, training, parallel, runs
its state     checkpoint, interruption, log
the features  metrics, evidence, proxies, effects, case_study, controls, verdicts
all of them   kinds, universality, splitting, automata
their meaning interpretability, rule_explainer, language_explainer, rubric
the book      plots, case_plots, automata_plots, chapter
"""

from .autoencoder import SparseAutoencoder, load_dictionary
from .errors import SaeCoreError
from .language_model import LanguageModel, load_model

__all__ = ["LanguageModel", "SaeCoreError", "SparseAutoencoder", "load_dictionary", "load_model"]
__version__ = "0.1.0"
