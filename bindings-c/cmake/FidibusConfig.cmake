# Targets: Fidibus::fidibus (shared) and Fidibus::static.
get_filename_component(_fidibus_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_package(Threads REQUIRED)

if(NOT TARGET Fidibus::fidibus)
  add_library(Fidibus::fidibus SHARED IMPORTED)
  set_target_properties(Fidibus::fidibus PROPERTIES
    IMPORTED_LOCATION "${_fidibus_prefix}/lib/libfidibus.so"
    IMPORTED_SONAME "libfidibus.so.0"
    INTERFACE_INCLUDE_DIRECTORIES "${_fidibus_prefix}/include")
endif()

if(NOT TARGET Fidibus::static)
  add_library(Fidibus::static STATIC IMPORTED)
  set_target_properties(Fidibus::static PROPERTIES
    IMPORTED_LOCATION "${_fidibus_prefix}/lib/libfidibus.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_fidibus_prefix}/include"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;gcc_s;util;rt;m;dl")
endif()

unset(_fidibus_prefix)
