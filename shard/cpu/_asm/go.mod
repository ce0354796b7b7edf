module lockstep/shard/cpu/_asm

go 1.26.0
