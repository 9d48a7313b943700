"""An alignment directory while it is made: what was asked for, the newest pass, and that it is done.

ALI/args.json      the request; a stopped command goes on only with the same one
ALI/tree.json      Tree        ALI/lexicon.json   Lexicon
ALI/pass.npz       the model after the newest pass
ALI/gmm.npz        the final model        ALI/log.jsonl   a line per pass
ALI/DONE           written when the targets are in the stores
"""

import hashlib
import json
import os
import pathlib

from hpcasr.align import gmm
from hpcasr.align.passes import State
from hpcasr.align.tree import Tree
from hpcasr.checkpoint import sync_directory, writing
from hpcasr.errors import BadInput
from hpcasr.experiment import lock
from hpcasr.given import json_of

OURS = 'DONE', 'gmm.npz', 'pass.npz', 'tree.json', 'lexicon.json', 'log.jsonl', 'args.json'
OTHERS = 'model.json', 'versions.json', 'checkpoints'  # of an experiment of hpcasr train


class Folder:
    """The directory `path` for the request `args`, a dict for JSON; `run` names both, in the targets of the stores."""

    def __init__(self, path, args):
        self.path, self.args = pathlib.Path(path), args
        told = json.dumps([args, os.path.realpath(path)], sort_keys=True)
        self.run = hashlib.sha256(told.encode()).hexdigest()[:16]

    def claim(self, force):
        """Make it, or find in it what a stopped command left: (whether that is so).  Called by one rank.

        Raises BadInput if it holds something else and `force` is not given, or another job is at work in it.
        """
        with writing(self.path, 'choose another --out'):
            self.path.mkdir(parents=True, exist_ok=True)
            lock(self.path, 'aligning')
            used = [name for name in OURS if (self.path/name).exists()]
            others = [name for name in OTHERS if (self.path/name).exists()]
        if others:
            raise BadInput(f'{self.path}: holds {others[0]}, which hpcasr align did not make; choose another --out')
        if used and not self.goes_on(force):
            if not force:
                raise BadInput(f'{self.path}: {self.difference()}; choose another --out, or replace it with --force')
            self.clear()
            used = []
        if not used:
            self.write('args.json', json.dumps(self.args, indent=1) + '\n')
        return (self.path/'pass.npz').exists()

    def goes_on(self, force):
        """Whether the same request was stopped here, and what it left can be read."""
        same = not (self.path/'DONE').exists() and self.found() == json.loads(json.dumps(self.args))
        if same and (self.path/'pass.npz').exists():
            try:
                self.load()
            except BadInput:
                if not force:
                    raise
                return False
        return same

    def found(self):
        """The request of which the directory is, {} if it does not say."""
        try:
            return json_of(self.path/'args.json')
        except (OSError, ValueError):
            return {}

    def difference(self):
        """Why it cannot be gone on with, in words."""
        if (self.path/'DONE').exists():
            return 'holds an alignment'
        found = self.found()
        differing = [k for k in self.args if not isinstance(found, dict) or found.get(k) != self.args[k]]
        return f'was begun with other arguments or data ({", ".join(differing)})'

    def clear(self):
        with writing(self.path, 'choose another --out'):
            for name in OURS:
                (self.path/name).unlink(missing_ok=True)

    def write(self, name, content):
        """A file of text or bytes, whole or not at all."""
        data = content.encode() if isinstance(content, str) else content
        self.replace(name, lambda file: file.write(data))

    def replace(self, name, write):
        """The file that write(file) makes in place of `name`."""
        with writing(self.path, 'make room, and run the same command again'):
            with open(self.path/f'.{name}', 'wb') as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(self.path/f'.{name}', self.path/name)
            sync_directory(self.path)

    def begin(self, tree, lexicon):
        """Write what does not change any more.  Called by one rank."""
        self.write('tree.json', tree.dumps())
        self.write('lexicon.json', lexicon.dumps())

    def facts(self, state):
        return {'frontend': self.args['frontend'], 'done': state.done, 'log': state.log}

    def save(self, state):
        """Write a passes.State.  Called by one rank."""
        self.replace('pass.npz', lambda file: gmm.dump(file, state.transform, state.mixtures, self.facts(state)))
        self.write('log.jsonl', ''.join(json.dumps(row) + '\n' for row in state.log))

    def load(self):
        """(the State that was saved last, Tree)."""
        transform, mixtures, facts = gmm.load(self.path/'pass.npz')
        tree = Tree.loads(gmm.text_of(self.path/'tree.json'), self.path/'tree.json')
        if tree.num_pdfs != mixtures.num_pdfs or not isinstance(facts.get('done'), int) \
                or not isinstance(facts.get('log'), list):
            raise BadInput(f'{self.path}: pass.npz and tree.json do not fit each other; start anew with --force')
        return State(facts['done'], transform, mixtures, facts['log']), tree

    def finish(self, state):
        """The final model.  Called by one rank."""
        self.replace('gmm.npz', lambda file: gmm.dump(file, state.transform, state.mixtures, self.facts(state)))

    def done(self, facts):
        """The end.  Called by one rank, when the stores have their targets."""
        self.write('DONE', json.dumps(facts, indent=1) + '\n')
        with writing(self.path, 'make it writable'):
            (self.path/'pass.npz').unlink(missing_ok=True)
