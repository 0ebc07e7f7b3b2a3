import type { Config } from '@verfs/config';
import type { CreateOptions, MountOptions, OpenOptions } from '@verfs/native';

/** How `config` wants volumes made. */
export function createOptionsOf(config: Config): Required<CreateOptions> {
  return {
    engine: config['create.meta_engine'],
    chunker: config['create.chunker'],
    chunkMeanBytes: config['create.chunk_mean'],
  };
}

/** The limits that `config` sets. */
export function openOptionsOf(config: Config): Required<OpenOptions> {
  return {
    groupBlocks: config['group.blocks'],
    groupIntervalMs: config['group.interval'],
    dirtyLimitBytes: config['memory.dirty_limit'],
    logInlineBytes: config['log.inline'],
    chunkCacheBytes: config['memory.chunk_cache'],
    packIndexCacheBytes: config['memory.pack_index_cache'],
    metaBlockCacheBytes: config['memory.meta_block_cache'],
    memtableBytes: config['memory.memtable'],
    inodeCacheEntries: config['memory.inode_cache_entries'],
    compressionLevel: config['compression.level'],
    compressThreads: config['compression.threads'],
    packTargetBytes: config['pack.target'],
    readOnly: config['volume.read_only'],
  };
}

/** How `config` wants volumes mounted. */
export function mountOptionsOf(config: Config): Required<MountOptions> {
  return {
    allowOther: config['mount.allow_other'],
    ioThreads: config['mount.io_threads'],
    pollUs: Math.round(config['mount.poll'] * 1000),
    extra: [...config['mount.options']],
  };
}
