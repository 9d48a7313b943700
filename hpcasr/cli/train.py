"""`hpcasr train`."""

import time

import click

OPTION_KEYS = {'algo': 'train.algo', 'model': 'model.preset', 'epochs': 'train.epochs', 'batch': 'data.batch',
               'chunk': 'data.chunk', 'lr': 'optim.lr', 'optimizer': 'optim.optimizer', 'schedule': 'optim.schedule',
               'seed': 'data.seed', 'checkpoint_every': 'checkpoint.every', 'topology': 'exchange.topology',
               'period': 'exchange.period', 'push_delay': 'exchange.push_delay', 'servers': 'exchange.servers',
               'reduce': 'exchange.reduce', 'node_size': 'exchange.node_size', 'pace': 'simulate.pace',
               'max_skipped': 'train.max_skipped', 'max_staleness': 'exchange.max_staleness',
               'assign': 'exchange.assign', 'progress': 'exchange.progress', 'precision': 'train.precision',
               'hang_timeout': 'train.hang_timeout',
               'compress': 'compress.method', 'compress_after': 'compress.after', 'backend': 'train.backend'}


@click.command()
@click.argument('store', required=False)
@click.option('--dev', metavar='STORE', help='Held-out data.  [default: some speakers of the training data]')
@click.option('--algo', metavar='NAME', help='Distributed-SGD algorithm.  [default: sync-allreduce]')
@click.option('--model', metavar='PRESET', help='tiny, small, mid, dnn or swb2000.  [default: small]')
@click.option('--out', metavar='EXP', help='Directory of the experiment.  [default: exp/ALGO-TIME]')
@click.option('--epochs', metavar='N', help='Passes over the training data.')
@click.option('--batch', metavar='N', help='Samples (chunks of frames) per rank and step.')
@click.option('--chunk', metavar='FRAMES', help='Frames of a sample.')
@click.option('--backend', metavar='NAME', help='auto, cpu, reference, or cuda: a GPU for every rank.  [default: auto]')
@click.option('--precision', metavar='fp32|tf32|bf16',
              help='What products multiply; sums are float32.  [default: fp32]')
@click.option('--lr', metavar='RATE', help='Learning rate at a global batch of optim.lr_batch samples.')
@click.option('--optimizer', metavar='NAME', help='sgd (with momentum) or adam.')
@click.option('--schedule', metavar='NAME', help='paper, newbob or constant.')
@click.option('--seed', metavar='N', help='Of initial parameters, the order of samples, dropout.')
@click.option('--checkpoint-every', metavar='SAMPLES', help='Checkpoints within an epoch, such as 100K samples apart.')
@click.option('--topology', metavar='NAME', help='Who averages with whom: ring, random-ring ...  [default: ring]')
@click.option('--period', metavar='STEPS', help='Local steps between exchanges of local-sgd, bmuf and easgd.')
@click.option('--push-delay', metavar='STEPS', help='Steps that a message of push-sum is under way.')
@click.option('--servers', metavar='N', help='Ranks that are servers of sync-ps, async-ps and easgd; 0: all.')
@click.option('--reduce', metavar='ordered|mpi', help='Sums in rank order, or as the MPI library likes.')
@click.option('--compress', metavar='METHOD',
              help='fp16, bf16, onebit, topk, threshold, qsgd or powersgd, with error feedback.')
@click.option('--compress-after', metavar='SAMPLES', help='Samples before which nothing is compressed, such as 100K.')
@click.option('--node-size', metavar='RANKS', help='Ranks of a node.  [default: those of one machine]')
@click.option('--max-staleness', metavar='K', help='Most updates of others between pull and push, in async-ps.')
@click.option('--assign', metavar='counter|static', help='Asynchronous work: to whoever is free, or in fixed shares.')
@click.option('--max-skipped', metavar='N', help='Steps in a row that may be left out as they are not finite; 0: stop '
              'at the first.  [default: 3]')
@click.option('--progress', metavar='poll|thread', help='What serves other ranks while this one computes.')
@click.option('--hang-timeout', metavar='SECONDS', help='Name who holds up a job that does not get on, and end it.  '
              '[default: 600; 0: never]')
@click.option('--record', metavar='FILE', default='', help='Record the order of an asynchronous run.')
@click.option('--replay', metavar='FILE', default='', help='Repeat such a run bit for bit.')
@click.option('--virtual', metavar='L', type=click.IntRange(1), help='Train L virtual learners in this one process.')
@click.option('--machine', metavar='FILE', help='Link costs of virtual learners, as measured by hpcasr bench latency '
              '--machine FILE.')
@click.option('--pace', metavar='MS', help='Sleep so long in place of computing a step; exchanges are real.')
@click.option('--slow-rank', 'slow_ranks', metavar='R=FACTOR[,JITTER]', multiple=True,
              help='Let rank R compute slower; may be repeated.')
@click.option('--config', 'toml', metavar='FILE.toml', help='Configuration file.')
@click.option('--set', 'assignments', metavar='SECTION.KEY=VALUE', multiple=True, help='Set one key; may be repeated.')
@click.option('--resume', metavar='auto|CHECKPOINT', default='',
              help='Go on from the newest good one in EXP, or from this.')
@click.option('--force', is_flag=True, help='Replace what is in EXP.')
@click.option('--show-config', is_flag=True, help='Print every key with its value and meaning, and stop.')
def train(store, dev, out, toml, assignments, resume, force, show_config, virtual, machine, slow_ranks, record,
          replay, **options):
    """Train an acoustic model on STORE with all ranks that mpirun or srun started.

    Without STORE it trains on a small built-in task made in memory.

    \b
    Examples:
      mpirun -n 2 hpcasr train
      srun hpcasr train train.h5 --dev dev.h5 --algo=sync-allreduce --model mid --out exp/mid --resume auto
      hpcasr train --virtual 16 --algo=sync-decentralized --topology random-ring
    """
    from hpcasr import config, faults, process
    values = {OPTION_KEYS[k]: v for k, v in options.items() if v is not None}
    values |= link_costs(machine, virtual) if machine else {}
    values |= {'simulate.slow_rank': ' '.join(slow_ranks)} if slow_ranks else {}
    if show_config:
        return click.echo(config.explain(config.resolve(toml, assignments, values)))
    status = faults.supervise()
    if status is not None:
        return status
    process.tune()
    from hpcasr.comm import world
    stop, start = faults.StopRequest(), world.virtual(virtual) if virtual else world.run
    request = {'store': store, 'dev': dev, 'out': out, 'resume': resume, 'force': force, 'record': record,
               'replay': replay}
    return start(lambda comm: on_all_ranks(comm, request, stop,
                                           comm.together(config.resolve, toml, assignments, values)))


def on_all_ranks(comm, request, stop, config):
    from hpcasr.run import Request, Run
    from hpcasr.train import train
    comm.simulate(config.simulate)
    if request['resume'] == 'auto' and request['out'] is None:
        comm.together(refuse_resume)
    named = request['out'] or f'exp/{config.train.algo}-{time.strftime("%Y%m%d-%H%M%S")}'
    return train(Run(Request(**request | {'out': comm.allgather(named)[0]}), config, comm, stop))


def link_costs(machine, virtual):
    """{'simulate.latency', 'simulate.bandwidth'} of a machine.json."""
    from hpcasr.errors import AgreedBadInput
    from hpcasr.machine import links
    if not virtual:
        raise AgreedBadInput('--machine tells what links between virtual learners cost; add --virtual L')
    return links(machine)


def refuse_resume():
    from hpcasr.errors import BadInput
    raise BadInput('--resume auto: name the experiment to go on with: --out EXP')
