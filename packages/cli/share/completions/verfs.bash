# Generated from the definitions of the commands by `npm run generate`.
_verfs() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command="" options="" words="" at word
  COMPREPLY=()
  for ((at = 1; at < COMP_CWORD; at++)); do
    word=${COMP_WORDS[at]}
    [[ $word == -* ]] && continue
    if [[ -z $command ]]; then
      command=$word
      case $command in volume|snapshot|policy|config|service) continue ;; esac
      break
    fi
    command+=" $word"
    break
  done
  if [[ -z $command ]]; then
    COMPREPLY=($(compgen -W 'mount unmount status stats du dedup-report top import export sync gc scrub fsck doctor crypt volume snapshot send receive policy config service completion --json --config --quiet --help -h' -- "$current"))
    return
  fi
  case $previous in
    --volume|-o|--metrics|--config|--html|--top|--interval|--count|--rate|--bundle|--auto-lock|--key-file|-k|--key-directory|--password|-p|--password-env|--password-fd|--grace|--chunker|--chunk-mean|--meta-engine|--for|--note|--to|--tag|--from|--resume|--schedule|--keep-last|--keep-hourly|--keep-daily|--keep-weekly|--keep-monthly|--keep-yearly|--keep-min-age|--scrub) COMPREPLY=($(compgen -f -- "$current")); compopt -o filenames; return ;;
  esac
  case $command in
    'mount') options='--volume --foreground -f -o --metrics --allow-other --read-only-recovery --json --config --quiet --help -h' words='' ;;
    'unmount') options='--volume --json --config --quiet --help -h' words='' ;;
    'status') options='--volume --json --config --quiet --help -h' words='' ;;
    'stats') options='--volume --json --config --quiet --help -h' words='' ;;
    'du') options='--volume --json --config --quiet --help -h' words='' ;;
    'dedup-report') options='--volume --html --top --json --config --quiet --help -h' words='' ;;
    'top') options='--volume --interval --count --once --json --config --quiet --help -h' words='' ;;
    'import') options='--volume --verify --checksum --leave-out --json --config --quiet --help -h' words='' ;;
    'export') options='--volume --verify --checksum --leave-out --json --config --quiet --help -h' words='' ;;
    'sync') options='--volume --json --config --quiet --help -h' words='' ;;
    'gc') options='--volume --now --dry-run --status --json --config --quiet --help -h' words='' ;;
    'scrub') options='--volume --now --rate --stop --status --json --config --quiet --help -h' words='' ;;
    'fsck') options='--volume --repair --json --config --quiet --help -h' words='' ;;
    'doctor') options='--volume --bundle --json --config --quiet --help -h' words='' ;;
    'crypt') options='--volume --create -c --unlock -u --lock -l --status --change-password --rotate-keyfile --rekey --auto-lock --key-file -k --key-directory --password -p --password-stdin --password-env --password-fd --compression --grace --force --json --config --quiet --help -h' words='' ;;
    'volume') options='--json --config --quiet --help -h' words='create info freeze thaw' ;;
    'volume create') options='--volume --chunker --chunk-mean --meta-engine --json --config --quiet --help -h' words='' ;;
    'volume info') options='--volume --json --config --quiet --help -h' words='' ;;
    'volume freeze') options='--volume --for --json --config --quiet --help -h' words='' ;;
    'volume thaw') options='--volume --json --config --quiet --help -h' words='' ;;
    'snapshot') options='--json --config --quiet --help -h' words='create list delete diff rollback clone restore hold release' ;;
    'snapshot create') options='--volume --note --json --config --quiet --help -h' words='' ;;
    'snapshot list') options='--volume --json --config --quiet --help -h' words='' ;;
    'snapshot delete') options='--volume --json --config --quiet --help -h' words='' ;;
    'snapshot diff') options='--volume --json --config --quiet --help -h' words='' ;;
    'snapshot rollback') options='--volume --json --config --quiet --help -h' words='' ;;
    'snapshot clone') options='--volume --json --config --quiet --help -h' words='' ;;
    'snapshot restore') options='--volume --to --json --config --quiet --help -h' words='' ;;
    'snapshot hold') options='--volume --tag --json --config --quiet --help -h' words='' ;;
    'snapshot release') options='--volume --tag --json --config --quiet --help -h' words='' ;;
    'send') options='--volume --from --resume --json --config --quiet --help -h' words='' ;;
    'receive') options='--volume --rollback --status --json --config --quiet --help -h' words='' ;;
    'policy') options='--json --config --quiet --help -h' words='show set run' ;;
    'policy show') options='--volume --json --config --quiet --help -h' words='' ;;
    'policy set') options='--volume --schedule --note --keep-last --keep-hourly --keep-daily --keep-weekly --keep-monthly --keep-yearly --keep-min-age --scrub --json --config --quiet --help -h' words='' ;;
    'policy run') options='--volume --dry-run --json --config --quiet --help -h' words='' ;;
    'config') options='--json --config --quiet --help -h' words='show set reload' ;;
    'config show') options='--json --config --quiet --help -h' words='' ;;
    'config set') options='--volume --json --config --quiet --help -h' words='' ;;
    'config reload') options='--volume --json --config --quiet --help -h' words='' ;;
    'service') options='--json --config --quiet --help -h' words='install remove' ;;
    'service install') options='--user --system --mount-helper --volume --start --print --json --config --quiet --help -h' words='' ;;
    'service remove') options='--user --system --mount-helper --json --config --quiet --help -h' words='' ;;
    'completion') options='--json --config --quiet --help -h' words='bash zsh fish' ;;
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  elif [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
    compopt -o filenames
  fi
}
complete -F _verfs verfs
