#!/bin/sh
# Makes docs/SCREENS.md: what the programs show, as a terminal has it. Needs tmux, and the programs in the folder that is named (a release
# build): docs/screens/capture.sh target/release > docs/SCREENS.md
set -eu
bin=$(CDPATH='' cd -- "${1:?the folder of the programs}" && pwd)
work=$(mktemp -d)
export XDG_DATA_HOME="$work/data-home" PATH="$bin:$PATH" TZ=UTC LC_ALL=C.UTF-8 TERM=screen-256color
unset NO_COLOR || true
cd "$work"
session="tern-screens-$$"

ternd --data-dir tern-data --listen 127.0.0.1:0 --metrics 127.0.0.1:0 --cores 2 > ready 2> log &
server=$!
trap 'tmux kill-session -t "$session" 2> none || true; kill "$server" 2> none || true; wait "$server" || true; rm -rf "$work"' EXIT
until grep -q '^ternd ready on ' ready; do sleep 0.05; done
address=$(sed -n 's/^ternd ready on //p' ready)

register() { # PROFILE PHONE NAME: with the code that the server shows, as soon as it does
    mkfifo "code-$1"
    tern -p "$1" --server "$address" --ca tern-data/cert.pem register "$2" --name "$3" > none 2>&1 < "code-$1" &
    exec 3> "code-$1"
    until ternctl otp "$2" > code 2> none; do sleep 0.05; done
    cat code >&3
    exec 3>&-
    wait $!
}

show() { # TITLE COMMAND-AS-SHOWN: a screen that was captured, from standard input
    printf '\n## %s\n```text\n' "$1"
    [ -z "$2" ] || printf '$ %s\n' "$2"
    # The machine's own temporary folder says nothing.
    sed -e "s|$work/data-home|/home/ann/.local/share|g" -e "s|$work/||g" -e 's/[ ]*$//' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
    printf '```\n'
}

screen() { # COLUMNS ROWS COMMAND: runs it on a screen of that size
    tmux new-session -d -s "$session" -x "$1" -y "$2" "$3"
}

keys() { tmux send-keys -t "$session" "$@"; }

until_shown() { # TEXT
    tries=0
    until tmux capture-pane -t "$session" -p | grep -qF -- "$1"; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || { echo "never shown: $1" >&2; tmux capture-pane -t "$session" -p >&2; exit 1; }
        sleep 0.05
    done
}

captured() { tmux capture-pane -t "$session" -p "$@"; }

end() { # and waits for what ran there: a profile is one program's at a time
    pane=$(tmux list-panes -t "$session" -F '#{pane_pid}')
    tmux kill-session -t "$session" 2> none || true
    while kill -0 "$pane" 2> none; do sleep 0.05; done
}

register ann +15550001 Ann
register bob +15550002 Bob
register carol +15550003 Carol
tern -p bob send +15550001 'Shall we meet at noon? I have the maps, and there is a lot to plan: who brings the boat, when the tide turns, and what we do if it rains.' > none
tern -p ann send +15550002 'Yes. Bring the 漢字 book 👨‍👩‍👧' > none
tern -p bob listen --once --mark-read > none
tern -p ann send +15550002 'A list:
	bread
	tea' > none
tern -p carol send +15550001 'Hello Ann, this is Carol' > none
tern -p ann send +15550003 'Hello Carol' > none
tern -p carol send +15550001 'Are you there?' > none

cat <<'EOF'
# What the programs show
As a terminal has it, made by [screens/capture.sh](screens/capture.sh) from a release build. Colours are not in it, but that unread chats are bold, read ticks cyan, what is being connected yellow; with
`NO_COLOR` they are the same letters, and read ticks are plain where others are dim.
EOF

tern -p ann chats | show 'The list of chats' 'tern -p ann chats'
tern -p ann whoami | show 'Who one is' 'tern -p ann whoami'
tern -p ann devices | show 'Devices' 'tern -p ann devices'
tern -p ann history +15550002 | show 'History' 'tern -p ann history +15550002'
(tern -p dave chats 2>&1 || true) | show 'An error: no such profile' 'tern -p dave chats'
(tern -p ann --fingerprint "$(printf '00%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32)" chats 2>&1 || true) |
    show 'An error: another certificate' 'tern -p ann --fingerprint 0000… chats'

screen 80 24 "tern -p ann chat"
until_shown Carol
captured | show 'Choosing a chat, 80x24' 'tern -p ann chat'
keys bob
until_shown '> bob'
keys Enter
until_shown 'A list:'
until_shown '● connected'
keys 'A draft, with a second line' M-Enter 'that is not sent yet'
until_shown 'not sent yet'
captured | show 'A chat, 80x24' ''
keys F1
until_shown 'any key goes back'
captured | show 'Its keys' ''
keys x C-r tide
until_shown 'search: tide'
captured | show 'A search' ''
end

screen 200 60 "tern -p ann chat +15550002"
until_shown 'not sent yet'
until_shown 'A list:'
until_shown '● connected'
captured | show 'A chat, 200x60; the draft is still there' 'tern -p ann chat +15550002'
end

# Bob is there, and writes.
bobs="$session-bob"
tmux new-session -d -s "$bobs" -x 80 -y 24 "tern -p bob chat +15550001"
until tmux capture-pane -t "$bobs" -p | grep -qF '● connected'; do sleep 0.05; done
screen 80 24 "tern -p ann chat +15550002"
until_shown 'online'
captured | sed -n '1p' | show 'A chat whose other one is there: its first line' 'tern -p ann chat +15550002'
tmux send-keys -t "$bobs" 'I bring'
until_shown 'typing'
captured | sed -n '1p' | show 'And while they write' ''
end
tmux send-keys -t "$bobs" C-u
pane=$(tmux list-panes -t "$bobs" -F '#{pane_pid}')
tmux kill-session -t "$bobs"
while kill -0 "$pane" 2> none; do sleep 0.05; done
screen 80 24 "tern -p ann chat +15550002"
until_shown 'last'
captured | sed -n '1p' | show 'And when they have gone' 'tern -p ann chat +15550002'
end

screen 80 24 "NO_COLOR=1 tern -p ann chat +15550002"
until_shown 'A list:'
until_shown '● connected'
captured -e | sed 's/\x1b/ESC/g' | show 'A chat with NO_COLOR, 80x24, with what it tells the terminal' 'NO_COLOR=1 tern -p ann chat +15550002'
end

group=$(tern -p ann group new 'The boat' +15550002 --about 'Saturday, if it is dry' | sed 's/^group @//')
tern -p ann send "@$group" 'I have put us all in one place' > none
tern -p bob listen --once --mark-read > none
tern -p bob send "@$group" 'Good. Carol wants to come too' > none
tern -p ann group add "@$group" +15550003 > none
tern -p ann group promote "@$group" +15550002 > none
tern -p carol listen --once --mark-read > none
tern -p carol send "@$group" 'Hello both' > none
tern -p bob group rename "@$group" 'The boat, Saturday' > none
tern -p ann chats | show 'The list of chats, with a group' 'tern -p ann chats'
tern -p ann group show "@$group" | show 'A group' "tern -p ann group show @$group"
screen 80 24 "tern -p ann chat @$group"
until_shown 'Hello both'
until_shown '● connected'
captured | show 'The chat of a group, 80x24' "tern -p ann chat @$group"
end

# What is about messages.
tern -p bob send "@$group" 'Rope, or chain?' --reply-to 2 > none
tern -p carol listen --once --mark-read > none
tern -p ann poll "@$group" 'Rope or chain?' rope chain > none
tern -p bob listen --once --mark-read > none
asked=$(tern -p ann history "@$group" --json | sed -n 's/.*"seq":\([0-9]*\).*/\1/p' | tail -n 1)
tern -p bob vote "@$group" "$asked" 2 > none
tern -p carol vote "@$group" "$asked" 2 > none
tern -p bob react "@$group" 2 👍 > none
wrong=$(tern -p bob send "@$group" 'At nine then' --json | sed -n 's/.*"seq":\([0-9]*\).*/\1/p')
tern -p bob edit "@$group" "$wrong" 'At ten then' > none
tern -p carol send "@$group" 'I can bring 茶 and 🥐' > none
tern -p ann timer "@$group" 7d > none
tern -p ann listen --once > none
screen 80 24 "tern -p ann chat @$group"
until_shown 'ten then'
until_shown '● connected'
captured | show 'Replies, reactions, edits, a poll, a timer, 80x24' "tern -p ann chat @$group"
end

tern -p ann schedule +15550002 'in 2h' 'Do not forget the rope' > none
tern -p ann scheduled | show 'What is to be sent later' 'tern -p ann scheduled'

tern -p ann devices --add | show 'A new device: what the old one shows' 'tern -p ann devices --add'

# Something to show: two people who send.
(for n in $(seq 1 200); do tern -p carol send +15550001 "message $n" || true; done) > none 2>&1 &
sender=$!
ternctl status | show 'How a server is, 80 columns' 'ternctl status'
screen 80 24 "ternctl top --every 1"
until_shown '/s acknowledged'
sleep 2.2
captured | show 'The same again and again, 80x24' 'ternctl top --every 1'
end
screen 200 60 "ternctl top --every 1"
until_shown '/s acknowledged'
sleep 2.2
captured | show 'And 200x60' 'ternctl top --every 1'
end
ternctl trace --every 1 --seconds 2 2> none | show 'Where the time of messages goes' 'ternctl trace --every 1 --seconds 2'
ternctl user +15550001 | show 'A user' 'ternctl user +15550001'
kill "$sender" 2> none || true
wait "$sender" 2> none || true

screen 100 30 "tern-bench pairs --rate 2000 --seconds 6; sleep 60"
until_shown '3 of'
captured | show 'A load, while it runs' 'tern-bench pairs --rate 2000 --seconds 6'
until_shown 'p99.9'
sleep 1
captured | show 'And its end' ''
end
