# Notes of agents: kept, found again, moved to storage when they are not used.
aios_module(memory
  SOURCES memory.c memory_db.c memory_dot.c memory_embed.c memory_model.c memory_move.c
    memory_near.c memory_note.c memory_save.c memory_search.c memory_sql.c memory_uses.c
    memory_vectors.c memory_words.c
  PUBLIC kernel_core storage llm
  PRIVATE PkgConfig::SQLITE m)
# A loop over a million vectors is no pleasure without it, in whatever build.
set_source_files_properties(memory_dot.c PROPERTIES COMPILE_OPTIONS "-O2;-Wno-psabi")

add_unit_test(memory memory base)
add_unit_test(memory_crash memory base PkgConfig::SQLITE)
add_unit_test(memory_move memory base)
add_unit_test(memory_search memory base)
add_unit_test(memory_storage memory base)
add_unit_test(memory_vectors memory base)
add_fuzz_target(memory_words memory PkgConfig::SQLITE)
