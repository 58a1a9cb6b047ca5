$PROBLEM counts made by the code itself
$INPUT ID TIME DV
$DATA data.csv IGNORE=@
$PRED
  LAMB = THETA(1)*EXP(ETA(1))
  IF (ICALL.EQ.4) THEN
    T = 0
    N = 0
    DO WHILE (T.LT.1)
      CALL RANDOM (2,R)
      T = T - LOG(1-R)/LAMB
      IF (T.LT.1) N = N + 1
    END DO
    DV = N
  ENDIF
$THETA (0,3)
$OMEGA 0.1
$SIMULATION (12345) (678910 UNIFORM) ONLYSIMULATION
