"""The parts that know no store and no framework: errors, settings, ids, time, interfaces."""
